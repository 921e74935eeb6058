#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "longshadow/error.h"
#include "longshadow/sparse_prefill.h"
#include "test/conformance/attention_batch.h"

/// Selections of keys, indexes and sparse attention for the tests of sparse prefill.
namespace longshadow::conformance {

/// Rows [begin, begin + rows) of a batch's first sequence.
struct Slice {
  std::int64_t begin = 0;
  std::int64_t rows = 0;
};

/// Distinct numbers below `end`, ascending.
std::vector<std::uint32_t> RandomLines(std::mt19937_64& generator, std::int64_t count,
                                       std::int64_t end);
/// A head that sees that many random columns and distances (distance 0 besides).
HeadSelection RandomLineHead(std::mt19937_64& generator, const Sequence& chunk,
                             std::int64_t columns, std::int64_t distances);
/// A head whose every query block sees its own key block and about one in `sparsity` before it.
HeadSelection RandomBlockHead(std::mt19937_64& generator, const Sequence& chunk,
                              std::int64_t sparsity);
/// A head of random lines, random blocks, A-shape or dense: by `number`, so that neighbours differ.
HeadSelection MixedHead(std::mt19937_64& generator, const Sequence& chunk, std::int64_t number);
/// Mixed heads for all query heads of a batch's first sequence.
KeySelection MixedSelection(std::mt19937_64& generator, const Batch& b);

/// Keys of a query block of a head in an index, ascending.
std::vector<std::int64_t> KeysOfEntry(const SparseIndex& index, std::int32_t head,
                                      std::int64_t block);
/// Tiles of at most 64 keys that a kernel makes of them.
std::int64_t TilesOfEntry(const SparseIndex& index, std::int32_t head, std::int64_t block);
/// Keys of all query blocks of a head: what Backend counts as attended.
std::int64_t KeysOfHead(const SparseIndex& index, std::int32_t head);

/// One SparseAttention with the selection's IndexRows before it. The result has all rows of q;
/// those outside the slice stay NaN.
Matrix AttendSparse(Backend& backend, const Batch& b, SparseSelection& selection,
                    const Slice& slice);
/// The same of the whole chunk, with an upload first.
Matrix AttendSparse(Backend& backend, const Batch& b, const KeySelection& selection);

/// Checks about `samples` rows of the slice, its first and last among them, against fp64 attention
/// over exactly the keys of the index.
void CheckSparse(const Batch& b, const SparseIndex& index, const Slice& slice, const Matrix& out,
                 std::int64_t samples);

/// The code that the call throws; kInternal where it throws nothing.
ErrorCode CodeOf(const std::function<void()>& call);

}  // namespace longshadow::conformance

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace longshadow {

/// A tenth of a second at the 400 GFLOP/s that two cores with bf16 arithmetic reach. Cancellation
/// cannot interrupt a product or an attention call, so none has many more flops than this.
inline constexpr std::int64_t kSliceFlops = 40'000'000'000;

/// Most rows that run through a layer together: scratch is sized by it, not by the chunk. As many
/// as a KV page has tokens, so that a block of a chunk writes one page. A weight matrix is read
/// once a block, and 512 rows give it 512 multiply-adds an element: some 30 times what this kind of
/// CPU needs to be bound by arithmetic (449 GFLOP/s against 30 GB/s) rather than by memory.
inline constexpr std::int64_t kRowBlock = 512;

/// Rows of one call whose rows cost `row_flops` each: at most kSliceFlops together, but at least
/// 64 (four times what binds a product by arithmetic) and at most kRowBlock. A power of two, so
/// that whole blocks make a page. Of the model's shape alone: bits do not depend on the batch.
std::int64_t RowsOfACall(std::int64_t row_flops);

/// Consecutive rows of one sequence inside a block.
struct RowPiece {
  std::size_t sequence = 0;    // index of the sequence
  std::int64_t row_begin = 0;  // in the stacked rows
  std::int64_t rows = 0;
  std::int64_t position = 0;  // of the first row in its sequence
};

/// Consecutive stacked rows made of whole pieces.
struct RowBlock {
  std::int64_t row_begin = 0;
  std::int64_t rows = 0;
  std::vector<RowPiece> pieces;
};

/// Rows [row_begin, row_begin + rows) of the stack belong to a sequence from `position` on.
struct StackedRows {
  std::int64_t row_begin = 0;
  std::int64_t rows = 0;
  std::int64_t position = 0;
};

/// Cuts each sequence into pieces of `block_rows` rows from its own first row on, and fills blocks
/// of at most as many with whole pieces in order. Where a sequence is cut never depends on the
/// others, so that its bits do not either (a kernel may choose its path by a piece's rows). `stack`
/// must be in order and without gaps.
std::vector<RowBlock> CutIntoBlocks(std::span<const StackedRows> stack, std::int64_t block_rows);

/// Arithmetic of `rows` rows that see about `keys` keys: q k^T and p v, two multiply-adds each.
constexpr std::int64_t AttentionFlops(std::int64_t query_width, std::int64_t rows,
                                      std::int64_t keys) {
  return 4 * query_width * rows * keys;
}

/// Keys that rows from `position` on see, on average.
constexpr double MeanKeys(std::int64_t position, std::int64_t rows) {
  return static_cast<double>(position) + 0.5 * static_cast<double>(rows + 1);
}

/// Rows of one attention call for a piece whose last row sees `keys` keys: a call is kept to about
/// a tenth of a second on two cores, since cancellation cannot interrupt it, but not to less than
/// a block of 64 queries. It depends on the model and the position alone.
std::int64_t AttentionSliceRows(std::int64_t query_width, std::int64_t keys);

}  // namespace longshadow

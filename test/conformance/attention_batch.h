#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "longshadow/backend.h"
#include "test/conformance/support.h"

/// Random sequences for tests of attention, and what attention gives them in fp64.
namespace longshadow::conformance {

struct Heads {
  std::int32_t kv = 1;
  std::int32_t group = 1;
  std::int32_t dim = 64;
};

struct Sequence {
  std::int64_t position = 0;
  std::int64_t rows = 1;
};

/// Sequences with their caches, and queries for all of them. Tests use layer 1 of 2.
struct Batch {
  Batch(std::mt19937_64& generator, const Heads& heads, DType dtype,
        std::span<const Sequence> wanted, std::int64_t distinct_pages = 0);

  /// Backend::Attention of all sequences.
  Matrix Run(Backend& backend) const;
  std::int32_t KvHead(std::int32_t query_head) const {
    return query_head / (shape.query_heads / shape.kv_heads);
  }

  AttentionShape shape;
  KvGeometry geometry;
  std::vector<PagedKv> caches;
  std::vector<SequenceRows> sequences;
  Matrix q;
};

/// One row of one query head.
struct RowHead {
  std::size_t sequence = 0;
  std::int64_t row = 0;  // of the sequence
  std::int32_t head = 0;
};

/// Its attention in fp64: output and what the output's tolerance needs.
struct Exact {
  std::vector<double> output;  // [head_dim], as are the next two
  std::vector<double> magnitude;
  std::vector<double> value_chain;
  double weight_chain = 0;
  double score_magnitude = 0;
};

/// Attention over keys [0, p] in tiles of 128.
Exact ExactAttention(const Batch& b, const RowHead& at);
/// Attention over the given keys, of which a kernel makes at most `tiles` tiles in any order.
Exact ExactAttention(const Batch& b, const RowHead& at, std::span<const std::int64_t> keys,
                     std::int64_t tiles);

/// How many elements of row `out_row` of `out` differ from the exact ones by more than the
/// tolerance; NaN counts.
std::int64_t CountWrong(const Batch& b, const RowHead& at, const Exact& exact, const Matrix& out,
                        std::int64_t out_row);

}  // namespace longshadow::conformance

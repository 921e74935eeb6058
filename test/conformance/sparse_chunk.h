#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "longshadow/sparse_prefill.h"
#include "test/conformance/sparse_support.h"

/// One chunk and its cache, for the tests of patterns that choose whole key blocks.
namespace longshadow::conformance {

using Blocks = std::set<std::uint32_t>;

struct Sizes {
  std::int64_t position = 0;
  std::int64_t rows = 1;
  std::int32_t kv_heads = 1;
  std::int32_t group = 1;
  std::int32_t head_dim = 64;
  DType dtype = DType::kF32;

  std::int64_t keys() const { return position + rows; }
  std::int64_t query_blocks() const { return (rows + kBlockTokens - 1) / kBlockTokens; }
  std::int64_t key_blocks() const { return position / kBlockTokens + query_blocks(); }
  std::int64_t own_block(std::int64_t i) const { return position / kBlockTokens + i; }
};

/// A chunk with its cache, in layer 1 of two, its rows not the first of the matrix.
struct Chunk {
  Chunk(std::mt19937_64& generator, const Sizes& wanted)
      : sizes(wanted),
        shape{wanted.kv_heads * wanted.group, wanted.kv_heads, wanted.head_dim,
              1.0F / std::sqrt(static_cast<float>(wanted.head_dim))},
        geometry{2, wanted.kv_heads, wanted.head_dim, wanted.dtype},
        cache(geometry, wanted.keys()),
        q(Matrix::Random(generator, wanted.dtype, kRowBegin + wanted.rows,
                         shape.query_heads * wanted.head_dim)) {
    cache.FillRandom(generator, wanted.keys());
  }

  SequenceRows Rows() const { return {kRowBegin, sizes.rows, sizes.position, cache.pages()}; }

  std::unique_ptr<SparseSelection> Select(Backend& backend, const HeadBudget& budget,
                                          const FlexOptions& flex = {}) const {
    const std::vector<HeadBudget> budgets(static_cast<std::size_t>(shape.query_heads), budget);
    return backend.SelectKeys(q.View(), shape, geometry, 1, Rows(), budgets, flex);
  }

  /// All keys of a block become the same vector: its mean, whatever the rounding.
  void SetBlock(std::int32_t kv_head, std::int64_t block, std::int64_t axis, float length) {
    const std::int64_t end = std::min(sizes.keys(), (block + 1) * kBlockTokens);
    for (std::int64_t key = block * kBlockTokens; key < end; ++key) {
      for (std::int64_t d = 0; d < sizes.head_dim; ++d) {
        cache.SetK(1, kv_head, key, d, d == axis ? length : 0.0F);
      }
    }
  }
  void SetQueries(std::int64_t first, std::int64_t count, std::int32_t head, std::int64_t axis,
                  float length) {
    for (std::int64_t row = first; row < first + count; ++row) {
      for (std::int64_t d = 0; d < sizes.head_dim; ++d) {
        q.Set(kRowBegin + row, head * sizes.head_dim + d, d == axis ? length : 0.0F);
      }
    }
  }

  static constexpr std::int64_t kRowBegin = 3;
  Sizes sizes;
  AttentionShape shape;
  KvGeometry geometry;
  PagedKv cache;
  Matrix q;
};

inline HeadBudget BlockSparse(std::int64_t tiles) {
  return {HeadPattern::kBlockSparse, 0, 0, tiles};
}
inline HeadBudget Flex(std::int64_t tiles) { return {HeadPattern::kFlex, 0, 0, tiles}; }

inline HeadBudget KeyBounds(std::int64_t tiles) { return {HeadPattern::kKeyBounds, 0, 0, tiles}; }

/// Key blocks of query block i.
inline Blocks BlocksOf(const HeadSelection& head, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  return {head.blocks.begin() + head.block_offsets[at],
          head.blocks.begin() + head.block_offsets[at + 1]};
}

inline Sizes DrawSizes(std::mt19937_64& generator) {
  const auto below = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(limit));
  };
  constexpr std::int32_t kDims[] = {8, 24, 64, 96, 128};
  Sizes sizes;
  sizes.position = below(24) * kBlockTokens;
  sizes.rows = 1 + below(500);
  sizes.kv_heads = static_cast<std::int32_t>(1 + below(2));
  sizes.group = static_cast<std::int32_t>(1 + below(3));
  sizes.head_dim = kDims[below(5)];
  sizes.dtype = below(2) == 0 ? DType::kF32 : DType::kBF16;
  return sizes;
}

}  // namespace longshadow::conformance

#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "longshadow/block_selection.h"
#include "test/native/sparse_test_support.h"

namespace longshadow::sparse_test {

using Blocks = std::set<std::uint32_t>;
using Row = std::vector<float>;

/// Rows of scores that are kept, as a backend gives them.
inline BlockRows RowsOf(const std::vector<Row>& rows) {
  return [&rows](const VisitBlockRow& visit) {
    for (std::size_t i = 0; i < rows.size(); ++i) visit(static_cast<std::int64_t>(i), rows[i]);
  };
}

inline ChunkBlocks DrawChunk(Random& random) {
  return {random.Below(20) * kBlockTokens, 1 + random.Below(12 * kBlockTokens)};
}

/// `count` multiples of 2^-16 that sum to exactly 1: sums of them are exact in any order. A few are
/// large, many are equal, some are 0.
inline Row DrawDistribution(Random& random, std::int64_t count) {
  std::vector<std::int64_t> cuts = {0, 1 << 16};
  for (std::int64_t i = 1; i < count; ++i) {
    cuts.push_back(random.Chance(0.3) ? random.Below((1 << 16) + 1) : random.Below(count));
  }
  std::ranges::sort(cuts);
  Row row;
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    row.push_back(static_cast<float>(cuts[i] - cuts[i - 1]) / 65536);
  }
  std::ranges::shuffle(row, random.bits());
  return row;
}

inline std::vector<Row> DrawDistributions(Random& random, const ChunkBlocks& chunk) {
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    rows.push_back(DrawDistribution(random, chunk.Visible(i)));
  }
  return rows;
}

inline FlexMasses DrawMasses(Random& random, const ChunkBlocks& chunk) {
  FlexMasses masses;
  masses.vertical = DrawDistribution(random, chunk.Keys());
  masses.slash = DrawDistribution(random, chunk.Keys());
  masses.vertical_blocks = random.Below(chunk.Keys() + 1);
  masses.slash_blocks = random.Below(chunk.Keys() + 1);
  return masses;
}

inline Blocks BlocksOf(const HeadSelection& head, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  return {head.blocks.begin() + head.block_offsets[at],
          head.blocks.begin() + head.block_offsets[at + 1]};
}

/// The `count` blocks of largest score, the forced ones first, ties by index.
inline Blocks Largest(const Row& scores, const Blocks& candidates, const Blocks& forced,
                      std::int64_t count) {
  std::vector<std::uint32_t> order(candidates.begin(), candidates.end());
  std::ranges::stable_sort(order, [&](auto a, auto b) {
    if (forced.contains(a) != forced.contains(b)) return forced.contains(a);
    return scores[a] > scores[b];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
  return {order.begin(), order.end()};
}

/// A query block's candidates, cut to `tiles`: its own comes before block 0.
inline Blocks CutTo(std::int64_t tiles, const Row& scores, const Blocks& candidates) {
  const auto own = static_cast<std::uint32_t>(scores.size() - 1);
  if (tiles == 1) return {own};
  return tiles == 0 ? candidates : Largest(scores, candidates, {0, own}, tiles);
}

inline Blocks AllOf(std::int64_t count) {
  const std::vector<std::uint32_t> all = First(count);
  return {all.begin(), all.end()};
}

/// Throws where kernels could not take the selection.
inline void Check(const ChunkBlocks& chunk, const HeadSelection& head) {
  CheckSelection({chunk.position, chunk.rows, {head}}, 1);
}

/// Whether each query block of `less` has blocks that the same one of `more` has too.
inline bool IsWithin(const ChunkBlocks& chunk, const HeadSelection& less,
                     const HeadSelection& more) {
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    if (!std::ranges::includes(BlocksOf(more, i), BlocksOf(less, i))) return false;
  }
  return true;
}

}  // namespace longshadow::sparse_test

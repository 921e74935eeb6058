#include <numeric>

#include "longshadow/block_selection.h"
#include "sparse/block_rows.h"

namespace longshadow {
namespace {

/// Drops blocks below kLeastBound, but not the first and the last; and their scores.
void DropFaint(std::vector<std::uint32_t>& blocks, std::vector<float>& scores) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (scores[i] < kLeastBound && i != 0 && i + 1 != blocks.size()) continue;
    blocks[kept] = blocks[i];
    scores[kept] = scores[i];
    ++kept;
  }
  blocks.resize(kept);
  scores.resize(kept);
}

}  // namespace

HeadSelection BlocksByBounds(const ChunkBlocks& chunk, const BoundScores& scores,
                             std::int64_t tiles) {
  HeadSelection head = NoBlocks();
  std::vector<std::uint32_t> blocks;
  std::vector<float> row;
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    blocks.resize(static_cast<std::size_t>(chunk.Visible(i)));
    std::iota(blocks.begin(), blocks.end(), 0U);
    const std::int64_t candidates = BoundCandidates(tiles);
    if (chunk.Visible(i) > candidates) {
      row.resize(blocks.size());
      scores.by_block(i, row);
      if (HasNaN(row)) return {};
      KeepLargest(blocks, row, candidates);
    }
    row.resize(blocks.size());
    scores.by_group(i, blocks, row);
    if (HasNaN(row)) return {};
    if (chunk.Visible(i) > tiles) {
      DropFaint(blocks, row);
      KeepLargest(blocks, row, tiles);
    }
    AppendBlocks(head, blocks);
  }
  return head;
}

}  // namespace longshadow

#include <algorithm>
#include <numeric>

#include "longshadow/block_selection.h"
#include "sparse/block_rows.h"

namespace longshadow {
namespace {

/// Of blocks that ascend, how many are not faint; the first and the last never are.
std::int64_t CountClear(std::span<const float> scores) {
  const auto inner = scores.subspan(1, scores.size() - 2);
  return 2 + std::ranges::count_if(inner, [](float score) { return score >= kLeastBound; });
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
      const std::int64_t worth = std::max(CountClear(row), kLeastTiles);
      KeepLargest(blocks, row, std::min(worth, tiles));
    }
    AppendBlocks(head, blocks);
  }
  return head;
}

}  // namespace longshadow

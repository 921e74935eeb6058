#include <algorithm>
#include <numeric>

#include "longshadow/block_selection.h"
#include "longshadow/sparse_selection.h"
#include "sparse/block_rows.h"

namespace longshadow {

bool HasNaN(std::span<const float> scores) {
  bool found = false;
  for (const float score : scores) found |= score != score;
  return found;
}

std::vector<std::uint32_t> LargestWithFirst(std::span<const float> scores, std::int64_t count) {
  std::vector<std::uint32_t> blocks = {0};
  for (const std::uint32_t block : LargestScores(scores.subspan(1), count - 1)) {
    blocks.push_back(block + 1);
  }
  return blocks;
}

void KeepLargest(std::vector<std::uint32_t>& blocks, std::span<const float> scores,
                 std::int64_t tiles) {
  const auto candidates = static_cast<std::int64_t>(blocks.size());
  if (tiles == 0 || candidates <= tiles) return;
  std::vector<std::uint32_t> kept;
  if (tiles > 1) {
    // All but its own: block 0, where it is one of them, is the first.
    const std::span<const float> others = scores.first(scores.size() - 1);
    const std::vector<std::uint32_t> chosen = blocks.front() == 0
                                                  ? LargestWithFirst(others, tiles - 1)
                                                  : LargestScores(others, tiles - 1);
    for (const std::uint32_t candidate : chosen) kept.push_back(blocks[candidate]);
  }
  kept.push_back(blocks.back());
  blocks = std::move(kept);
}

HeadSelection NoBlocks() {
  HeadSelection head;
  head.form = HeadSelection::Form::kBlocks;
  head.block_offsets = {0};
  return head;
}

void AppendBlocks(HeadSelection& head, std::span<const std::uint32_t> blocks) {
  head.blocks.insert(head.blocks.end(), blocks.begin(), blocks.end());
  head.block_offsets.push_back(static_cast<std::int64_t>(head.blocks.size()));
}

HeadSelection LargestBlocks(const ChunkBlocks& chunk, const BlockRows& scores, std::int64_t tiles) {
  HeadSelection head = NoBlocks();
  head.blocks.reserve(static_cast<std::size_t>(chunk.Queries() * std::min(tiles, chunk.Keys())));
  bool nan = false;
  std::vector<std::uint32_t> blocks;
  scores([&](std::int64_t, std::span<const float> row) {
    nan = nan || HasNaN(row);
    if (nan) return;
    blocks.resize(row.size());
    std::iota(blocks.begin(), blocks.end(), 0U);
    KeepLargest(blocks, row, tiles);
    AppendBlocks(head, blocks);
  });
  return nan ? HeadSelection{} : head;
}

}  // namespace longshadow

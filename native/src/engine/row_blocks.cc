#include "engine/row_blocks.h"

#include <algorithm>

namespace longshadow {
namespace {

constexpr std::int64_t kQueryBlock = 64;
// A tenth of a second at the 400 GFLOP/s that two cores with bf16 arithmetic reach.
constexpr std::int64_t kSliceFlops = 40'000'000'000;

}  // namespace

std::vector<RowBlock> CutIntoBlocks(std::span<const StackedRows> stack) {
  std::vector<RowBlock> blocks;
  for (std::size_t s = 0; s < stack.size(); ++s) {
    for (std::int64_t done = 0; done < stack[s].rows; done += kRowBlock) {
      const RowPiece piece{s, stack[s].row_begin + done, std::min(kRowBlock, stack[s].rows - done),
                           stack[s].position + done};
      if (blocks.empty() || blocks.back().rows + piece.rows > kRowBlock) {
        blocks.push_back({piece.row_begin, 0, {}});
      }
      blocks.back().rows += piece.rows;
      blocks.back().pieces.push_back(piece);
    }
  }
  return blocks;
}

std::int64_t AttentionSliceRows(std::int64_t query_width, std::int64_t keys) {
  // q k^T and p v: two multiply-adds an element.
  const std::int64_t row_flops = 4 * query_width * std::max<std::int64_t>(keys, 1);
  return std::max(kQueryBlock, kSliceFlops / row_flops / kQueryBlock * kQueryBlock);
}

}  // namespace longshadow

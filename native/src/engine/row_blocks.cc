#include "engine/row_blocks.h"

#include <algorithm>

namespace longshadow {
namespace {

constexpr std::int64_t kQueryBlock = 64;

}  // namespace

std::int64_t RowsOfACall(std::int64_t row_flops) {
  std::int64_t rows = kRowBlock;
  while (rows > kQueryBlock && rows * row_flops > kSliceFlops) rows /= 2;
  return rows;
}

std::vector<RowBlock> CutIntoBlocks(std::span<const StackedRows> stack, std::int64_t block_rows) {
  std::vector<RowBlock> blocks;
  for (std::size_t s = 0; s < stack.size(); ++s) {
    for (std::int64_t done = 0; done < stack[s].rows; done += block_rows) {
      const RowPiece piece{s, stack[s].row_begin + done, std::min(block_rows, stack[s].rows - done),
                           stack[s].position + done};
      if (blocks.empty() || blocks.back().rows + piece.rows > block_rows) {
        blocks.push_back({piece.row_begin, 0, {}});
      }
      blocks.back().rows += piece.rows;
      blocks.back().pieces.push_back(piece);
    }
  }
  return blocks;
}

std::int64_t AttentionSliceRows(std::int64_t query_width, std::int64_t keys) {
  const std::int64_t row_flops = AttentionFlops(query_width, 1, std::max<std::int64_t>(keys, 1));
  return std::max(kQueryBlock, kSliceFlops / row_flops / kQueryBlock * kQueryBlock);
}

}  // namespace longshadow

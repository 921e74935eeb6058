#include <algorithm>
#include <numeric>

#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

std::vector<std::uint32_t> FirstLines(std::int64_t count, std::int64_t keys) {
  std::vector<std::uint32_t> lines(static_cast<std::size_t>(std::clamp(count, INT64_C(0), keys)));
  std::iota(lines.begin(), lines.end(), 0U);
  return lines;
}

}  // namespace

HeadSelection AShapeSelection(const HeadBudget& budget, std::int64_t keys) {
  std::int64_t columns = budget.columns;
  std::int64_t distances = budget.distances;
  // All keys together cost no more than this many tiles.
  if (const std::int64_t tiles = std::min(budget.tiles, 2 * (keys / kBlockTokens + 2)); tiles > 0) {
    columns = std::min(columns, (tiles - 1) * kBlockTokens);
    const std::int64_t near = tiles - (columns + kBlockTokens - 1) / kBlockTokens;
    // SlashTiles of n near keys: each tile holds 64, and the block's first row reaches into one
    // more.
    distances = std::min(distances, (near - 1) * kBlockTokens + 1);
  }
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = FirstLines(columns, keys);
  head.distances = FirstLines(distances, keys);
  return head;
}

}  // namespace longshadow

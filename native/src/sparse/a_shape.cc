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
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = FirstLines(budget.columns, keys);
  head.distances = FirstLines(budget.distances, keys);
  return head;
}

}  // namespace longshadow

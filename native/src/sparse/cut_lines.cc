#include "sparse/cut_lines.h"

#include <algorithm>

namespace longshadow {

void CutLines(std::span<const KeyRange> runs, std::int64_t shift,
              std::span<const std::uint32_t> lines, std::int64_t position, std::int64_t rows,
              std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns) {
  const std::int64_t end = position + rows;
  auto line = lines.begin();
  const auto up_to = [&](std::int64_t key) {
    return std::find_if(line, lines.end(), [&](std::int64_t column) { return column >= key; });
  };
  for (const KeyRange& run : runs) {  // none begins behind the block's first row
    const KeyRange moved{static_cast<std::uint32_t>(run.begin + shift),
                         static_cast<std::uint32_t>(std::min(run.end + shift, end))};
    const auto before = up_to(moved.begin);
    columns.insert(columns.end(), line, before);
    line = before;
    line = up_to(moved.end);
    ranges.push_back(moved);
  }
  columns.insert(columns.end(), line, up_to(position));
}

}  // namespace longshadow

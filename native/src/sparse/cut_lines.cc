#include "sparse/cut_lines.h"

#include <algorithm>

#include "sparse/gallop.h"

namespace longshadow {

void CutLines(std::span<const KeyRange> runs, std::int64_t shift,
              std::span<const std::uint32_t> lines, std::int64_t position, std::int64_t rows,
              std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns) {
  const std::int64_t end = position + rows;
  std::size_t line = 0;
  const auto append_up_to = [&](std::int64_t key) {
    const std::size_t first = line;
    line = GallopUp(lines, line, key);
    columns.insert(columns.end(), lines.begin() + static_cast<std::ptrdiff_t>(first),
                   lines.begin() + static_cast<std::ptrdiff_t>(line));
  };
  for (const KeyRange& run : runs) {  // none begins behind the block's first row
    const KeyRange moved{static_cast<std::uint32_t>(run.begin + shift),
                         static_cast<std::uint32_t>(std::min(run.end + shift, end))};
    append_up_to(moved.begin);
    line = GallopUp(lines, line, moved.end);
    ranges.push_back(moved);
  }
  append_up_to(position);
}

}  // namespace longshadow

#include "sparse/cut_lines.h"

#include <algorithm>

namespace longshadow {

void CutLines(std::span<const KeyRange> runs, std::int64_t shift,
              std::span<const std::uint32_t> lines, std::int64_t position, std::int64_t rows,
              std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns) {
  auto line = lines.begin();
  const auto up_to = [&](std::int64_t key) { return std::lower_bound(line, lines.end(), key); };
  for (const KeyRange& run : runs) {
    const std::int64_t begin = run.begin + shift;
    const std::int64_t end = std::min(run.end + shift, position + rows);
    const auto before = up_to(std::min(begin, position));
    columns.insert(columns.end(), line, before);
    line = before;
    line = up_to(end);
    ranges.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
  }
  columns.insert(columns.end(), line, std::max(line, up_to(position)));
}

}  // namespace longshadow

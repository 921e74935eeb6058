#include "longshadow/sparse_selection.h"
#include "sparse/cut_lines.h"
#include "sparse/sweep_distances.h"

namespace longshadow {

std::vector<KeyRange> RunsOfDistances(std::span<const std::uint32_t> distances,
                                      std::int64_t position) {
  std::vector<KeyRange> runs;
  SweepDistances(distances, position, [&](std::int64_t begin, std::int64_t end) {
    runs.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
  });
  return runs;
}

std::int64_t SlashTiles(std::span<const std::uint32_t> distances) {
  if (distances.empty()) return 0;
  std::int64_t tiles = 0;
  SweepDistances(distances, distances.back(), [&](std::int64_t begin, std::int64_t end) {
    tiles += (end - begin) / kBlockTokens;
  });
  return tiles;
}

void LinesToKeys(const HeadSelection& head, std::int64_t position, std::int64_t rows,
                 std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns) {
  const std::vector<KeyRange> runs = RunsOfDistances(head.distances, position);
  CutLines(runs, 0, head.columns, position, rows, ranges, columns);
}

}  // namespace longshadow

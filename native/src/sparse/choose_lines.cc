#include <algorithm>
#include <limits>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "sparse/score_rank.h"
#include "sparse/slash_tile_counter.h"

namespace longshadow {
namespace {

/// Columns or distances that may be taken, best first.
struct Candidates {
  std::vector<std::uint32_t> lines;  // the forced ones, then by score
  std::int64_t forced = 0;
  std::int64_t size() const { return static_cast<std::int64_t>(lines.size()); }
};

/// How many of each are taken.
struct Prefixes {
  std::int64_t columns = 0;
  std::int64_t distances = 0;
};

/// At most `most` of the lines, but always the first `forced` ones.
Candidates ByScore(std::span<const float> scores, std::int64_t forced, std::int64_t most) {
  Candidates candidates;
  candidates.forced = std::min(forced, static_cast<std::int64_t>(scores.size()));
  const auto first = static_cast<std::uint32_t>(candidates.forced);
  std::vector<std::uint32_t> best = LargestScores(scores.subspan(first), most - first);
  for (std::uint32_t& line : best) line += first;
  std::ranges::stable_sort(best, std::ranges::greater(),
                           [&](std::uint32_t line) { return ScoreRank(scores[line]); });
  candidates.lines.resize(first);
  std::iota(candidates.lines.begin(), candidates.lines.end(), 0U);
  candidates.lines.insert(candidates.lines.end(), best.begin(), best.end());
  return candidates;
}

/// What a line adds to the sum. Masses are positive; what is no mass adds nothing.
double MassOf(float score) {
  return score > 0 ? std::min(score, std::numeric_limits<float>::max()) : 0.0;
}

/// sums[i]: of the first i lines' scores. Forced lines, which are in every choice, add nothing.
std::vector<double> PrefixSums(const Candidates& candidates, std::span<const float> scores) {
  std::vector<double> sums(candidates.lines.size() + 1, 0.0);
  for (std::size_t i = static_cast<std::size_t>(candidates.forced); i < sums.size() - 1; ++i) {
    sums[i + 1] = sums[i] + MassOf(scores[candidates.lines[i]]);
  }
  return sums;
}

/// The prefixes of the largest sum that cost at most `tiles`; of equal sums that with the most
/// distances. Every number of distances that fits is tried, with as many columns as then do.
Prefixes Fit(const Candidates& columns, std::span<const double> column_sums,
             const Candidates& distances, std::span<const double> distance_sums, std::int64_t tiles,
             SlashTileCounter& counter) {
  Prefixes best{columns.forced, distances.forced};
  double best_sum = -1;
  for (std::int64_t k = 0; k <= distances.size(); ++k) {
    if (k > 0) counter.Insert(distances.lines[k - 1]);
    if (k < distances.forced) continue;
    const std::int64_t room = (tiles - counter.tiles()) * kBlockTokens;
    if (room < columns.forced) break;
    const std::int64_t j = std::min(room, columns.size());
    const double sum = column_sums[j] + distance_sums[k];
    if (sum < best_sum) continue;
    best_sum = sum;
    best = {j, k};
  }
  return best;
}

std::vector<std::uint32_t> Ascending(std::vector<std::uint32_t> lines, std::int64_t count) {
  lines.resize(static_cast<std::size_t>(count));
  std::ranges::sort(lines);
  return lines;
}

}  // namespace

HeadSelection ChooseLines(std::span<const float> vertical, std::span<const float> slash,
                          const HeadBudget& budget) {
  const auto keys = static_cast<std::int64_t>(std::max(vertical.size(), slash.size()));
  // All columns and distances cost less than this many; a tile makes room for 64 of either at most.
  const std::int64_t tiles = std::min(budget.tiles, 2 * (keys / kBlockTokens + 2));
  const std::int64_t room = tiles > 0 ? tiles * kBlockTokens : keys;
  const Candidates columns = ByScore(vertical, kForcedColumns, std::min(budget.columns, room));
  const Candidates distances = ByScore(slash, kForcedDistances, std::min(budget.distances, room));
  Prefixes taken{columns.size(), distances.size()};
  if (tiles > 0) {
    SlashTileCounter counter(keys);
    taken = Fit(columns, PrefixSums(columns, vertical), distances, PrefixSums(distances, slash),
                tiles, counter);
  }
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = Ascending(columns.lines, taken.columns);
  head.distances = Ascending(distances.lines, taken.distances);
  return head;
}

}  // namespace longshadow

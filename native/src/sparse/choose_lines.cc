#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "sparse/block_rows.h"
#include "sparse/score_rank.h"
#include "sparse/slash_tile_counter.h"

namespace longshadow {
namespace {

/// Up to so many distances each number of them is tried: more than any published pattern has.
constexpr std::int64_t kTriedOneByOne = 512 * kBlockTokens;
/// Beyond, a try has one in so many more than the last one: 178 tries until they are twice as many.
constexpr std::int64_t kStepShare = 256;

/// Columns or distances that may be taken.
struct Candidates {
  std::vector<std::uint32_t> lines;  // ascending; once sorted, the forced ones, then by score
  std::int64_t forced = 0;
  std::int64_t size() const { return static_cast<std::int64_t>(lines.size()); }
};

/// How many of each are taken.
struct Prefixes {
  std::int64_t columns = 0;
  std::int64_t distances = 0;
};

/// The `most` lines of largest score, but always the first `forced` ones.
Candidates Largest(std::span<const float> scores, std::int64_t forced, std::int64_t most) {
  Candidates candidates;
  candidates.forced = std::min(forced, static_cast<std::int64_t>(scores.size()));
  const auto first = static_cast<std::uint32_t>(candidates.forced);
  candidates.lines.resize(first);
  std::iota(candidates.lines.begin(), candidates.lines.end(), 0U);
  for (const std::uint32_t line : LargestScores(scores.subspan(first), most - first)) {
    candidates.lines.push_back(line + first);
  }
  return candidates;
}

/// Of equal scores the lower line goes first.
void SortByScore(Candidates& candidates, std::span<const float> scores) {
  const auto begin = candidates.lines.begin() + candidates.forced;
  std::vector<std::uint64_t> order;
  order.reserve(candidates.lines.size());
  for (auto line = begin; line != candidates.lines.end(); ++line) {
    order.push_back(std::uint64_t{ScoreRank(scores[*line])} << 32 | ~*line);
  }
  std::ranges::sort(order, std::ranges::greater());
  std::ranges::transform(order, begin,
                         [](std::uint64_t entry) { return ~static_cast<std::uint32_t>(entry); });
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

/// Adds the distances from number k on that are tried next. Returns how many there are then.
std::int64_t AddDistances(const Candidates& distances, std::int64_t k, SlashTileCounter& counter) {
  if (k < kTriedOneByOne) {
    counter.Insert(distances.lines[k]);
    return k + 1;
  }
  const std::int64_t count = std::min(k / kStepShare, distances.size() - k);
  counter.InsertAll(std::span(distances.lines).subspan(k, count));
  return k + count;
}

/// The prefixes of the largest sum that cost at most `tiles`; of equal sums that with the most
/// distances. Every number of distances that fits is tried, or as many as AddDistances says, with
/// as many columns as then do.
Prefixes Fit(const Candidates& columns, std::span<const double> column_sums,
             const Candidates& distances, std::span<const double> distance_sums, std::int64_t tiles,
             SlashTileCounter& counter) {
  Prefixes best{columns.forced, distances.forced};
  double best_sum = -1;
  counter.InsertAll(std::span(distances.lines).first(distances.forced));
  for (std::int64_t k = distances.forced; k <= distances.size();) {
    const std::int64_t room = (tiles - counter.tiles()) * kBlockTokens;
    if (room < columns.forced) break;
    const std::int64_t j = std::min(room, columns.size());
    const double sum = column_sums[j] + distance_sums[k];
    if (sum >= best_sum) {
      best_sum = sum;
      best = {j, k};
    }
    if (k == distances.size()) break;
    k = AddDistances(distances, k, counter);
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
  Candidates columns = Largest(vertical, kForcedColumns, std::min(budget.columns, room));
  Candidates distances = Largest(slash, kForcedDistances, std::min(budget.distances, room));
  Prefixes taken{columns.size(), distances.size()};
  const std::int64_t cost = SlashTiles(distances.lines) * kBlockTokens + columns.size();
  if (tiles > 0 && cost > tiles * kBlockTokens) {
    SortByScore(columns, vertical);
    SortByScore(distances, slash);
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

HeadSelection VerticalSlashSelection(const LineScores& scores, const HeadBudget& budget) {
  if (HasNaN(scores.vertical) || HasNaN(scores.slash)) return {};
  return ChooseLines(scores.vertical, scores.slash, budget);
}

}  // namespace longshadow

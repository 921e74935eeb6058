#include <algorithm>
#include <cmath>
#include <limits>

#include "longshadow/block_selection.h"
#include "longshadow/error.h"
#include "sparse/block_rows.h"
#include "sparse/mass_cut.h"

namespace longshadow {
namespace {

/// From this share on, all masses are told apart; below it, those that are certainly in the rest
/// are passed over.
constexpr float kExactShare = 0.999F;

/// `count` masses that are no larger than this cannot be part of the largest ones that sum to
/// `share` of `total`: together they hold less than half of the rest. Half, for the rounding of the
/// sums.
float FloorOf(double total, float share, std::int64_t count) {
  if (!(share < kExactShare)) return 0;
  const double rest = (1.0 - static_cast<double>(share)) * total;
  return static_cast<float>(0.5 * rest / static_cast<double>(std::max<std::int64_t>(count, 1)));
}

double TargetOf(double total, float share) {
  return share < 1 ? static_cast<double>(share) * total : std::numeric_limits<double>::infinity();
}

std::vector<float> SumByBlock(std::span<const float> masses) {
  const auto block = static_cast<std::size_t>(kBlockTokens);
  std::vector<float> sums((masses.size() + block - 1) / block);
  for (std::size_t b = 0; b < sums.size(); ++b) {
    const std::size_t begin = b * block;
    double sum = 0;
    for (const float mass : masses.subspan(begin, std::min(block, masses.size() - begin))) {
      sum += static_cast<double>(mass);
    }
    sums[b] = static_cast<float>(sum);
  }
  return sums;
}

/// Key blocks that serve every query block after them, and distances in blocks.
struct LineBlocks {
  std::vector<std::uint32_t> vertical;  // ascending, from 0
  std::vector<std::uint32_t> slash;     // ascending, from 0

  LineBlocks(const FlexMasses& masses, std::int64_t vertical_blocks, std::int64_t slash_blocks,
             std::int64_t tiles)
      : vertical(LargestWithFirst(masses.vertical, Clip(vertical_blocks, tiles))),
        slash(LargestWithFirst(masses.slash, Clip(slash_blocks, tiles))) {}

  static std::int64_t Clip(std::int64_t count, std::int64_t tiles) {
    const std::int64_t most = tiles > 0 ? tiles : std::numeric_limits<std::int64_t>::max();
    return std::clamp<std::int64_t>(count, 1, most);
  }

  /// The key blocks of the query block whose own is `own`, ascending.
  void BlocksOf(std::uint32_t own, std::vector<std::uint32_t>& blocks) {
    diagonal_.clear();
    for (auto s = std::upper_bound(slash.begin(), slash.end(), own); s != slash.begin();) {
      diagonal_.push_back(own - *--s);
    }
    blocks.clear();
    std::set_union(vertical.begin(), std::upper_bound(vertical.begin(), vertical.end(), own),
                   diagonal_.begin(), diagonal_.end(), std::back_inserter(blocks));
  }

 private:
  std::vector<std::uint32_t> diagonal_;
};

/// The entries of the largest probabilities over all query blocks. Sets `nan` where one is.
MassCut CutOf(const ChunkBlocks& chunk, const BlockRows& probabilities, float gamma, bool& nan) {
  const auto rows = static_cast<double>(chunk.Queries());
  MassHistogram histogram;
  const float floor = FloorOf(rows, gamma, chunk.Queries() * chunk.Keys());
  probabilities([&](std::int64_t, std::span<const float> row) {
    nan = nan || HasNaN(row);
    if (!nan) histogram.Add(row, floor);
  });
  if (nan) return {};
  histogram.SetTarget(TargetOf(rows, gamma));
  if (histogram.NeedsSecondFeed()) {
    probabilities([&](std::int64_t, std::span<const float> row) { histogram.AddAgain(row); });
  }
  return histogram.Cut();
}

}  // namespace

std::int64_t CountForMass(std::span<const float> masses, float share) {
  double total = 0;
  for (const float mass : masses) total += static_cast<double>(mass);
  MassHistogram histogram;
  histogram.Add(masses, FloorOf(total, share, static_cast<std::int64_t>(masses.size())));
  const double target = TargetOf(total, share);
  histogram.SetTarget(target);
  if (histogram.NeedsSecondFeed()) histogram.AddAgain(masses);
  histogram.Cut();
  const bool short_of_it = histogram.NeedsSecondFeed() && histogram.kept_sum() < target;
  return histogram.kept() + (short_of_it ? 1 : 0);
}

FlexMasses SumMasses(const LineScores& lines, float gamma) {
  FlexMasses masses;
  masses.vertical = SumByBlock(lines.vertical);
  masses.slash = SumByBlock(lines.slash);
  const auto blocks = [&](std::span<const float> scores) {
    return (CountForMass(scores, gamma) + kBlockTokens - 1) / kBlockTokens;
  };
  masses.vertical_blocks = blocks(lines.vertical);
  masses.slash_blocks = blocks(lines.slash);
  return masses;
}

double JensenShannonDistance(std::span<const float> e, std::span<const float> p) {
  const auto term = [](double a, double m) { return a == 0 ? 0.0 : a * std::log(a / m); };
  double sum = 0;
  for (std::size_t i = 0; i < e.size(); ++i) {
    const auto a = static_cast<double>(e[i]);
    const auto b = static_cast<double>(p[i]);
    const double m = 0.5 * (a + b);
    sum += 0.5 * (term(a, m) + term(b, m));
  }
  // Of equal distributions rounding may leave a sum just below zero.
  return sum < 0 ? 0.0 : std::sqrt(sum);
}

HeadSelection VerticalSlashBlocks(const ChunkBlocks& chunk, const FlexMasses& masses,
                                  std::int64_t min_tiles, std::int64_t tiles,
                                  const CancellationFlag* interrupt) {
  LineBlocks lines(masses, std::max(masses.vertical_blocks, min_tiles),
                   std::max(masses.slash_blocks, min_tiles), tiles);
  HeadSelection head = NoBlocks();
  std::vector<std::uint32_t> blocks;
  std::vector<float> scores;
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    ThrowIfCancelled(interrupt);
    const auto own = static_cast<std::uint32_t>(chunk.Visible(i) - 1);
    lines.BlocksOf(own, blocks);
    scores.clear();
    for (const std::uint32_t b : blocks) {
      scores.push_back(masses.vertical[b] + masses.slash[own - b]);
    }
    KeepLargest(blocks, scores, tiles);
    AppendBlocks(head, blocks);
  }
  return head;
}

HeadSelection QueryAwareBlocks(const ChunkBlocks& chunk, const BlockRows& probabilities,
                               const FlexMasses& masses, const FlexOptions& options,
                               std::int64_t tiles) {
  bool nan = false;
  MassCut cut = CutOf(chunk, probabilities, options.gamma, nan);
  if (nan) return {};
  LineBlocks lines(masses, options.min_tiles, options.min_tiles, tiles);
  HeadSelection head = NoBlocks();
  std::vector<std::uint32_t> of_lines;
  std::vector<std::uint32_t> kept;
  std::vector<std::uint32_t> blocks;
  std::vector<float> scores;
  probabilities([&](std::int64_t, std::span<const float> row) {
    lines.BlocksOf(static_cast<std::uint32_t>(row.size() - 1), of_lines);
    kept.clear();
    for (std::uint32_t b = 0; b < row.size(); ++b) {
      const bool tie = row[b] == cut.value && cut.ties > 0;
      if (!tie && !(row[b] > cut.value)) continue;
      cut.ties -= tie ? 1 : 0;
      kept.push_back(b);
    }
    blocks.clear();
    std::set_union(of_lines.begin(), of_lines.end(), kept.begin(), kept.end(),
                   std::back_inserter(blocks));
    scores.clear();
    for (const std::uint32_t b : blocks) scores.push_back(row[b]);
    KeepLargest(blocks, scores, tiles);
    AppendBlocks(head, blocks);
  });
  return head;
}

HeadSelection FlexBlocks(const ChunkBlocks& chunk, const FlexEstimate& estimate,
                         const HeadBudget& budget, const FlexOptions& options) {
  const FlexMasses masses = SumMasses(estimate.lines, options.gamma);
  if (HasNaN(masses.vertical) || HasNaN(masses.slash) || HasNaN(estimate.pooled)) return {};
  std::vector<float> truth = masses.vertical;
  for (float& mass : truth) mass /= static_cast<float>(estimate.line_rows);
  const double distance = JensenShannonDistance(estimate.pooled, truth);
  if (distance < static_cast<double>(options.tau)) {
    return QueryAwareBlocks(chunk, estimate.probabilities, masses, options, budget.tiles);
  }
  return VerticalSlashBlocks(chunk, masses, options.min_tiles, budget.tiles, estimate.interrupt);
}

void CheckFlexOptions(const FlexOptions& options) {
  if (!(options.gamma > 0 && options.gamma <= 1)) {
    throw Error(ErrorCode::kInvalidArgument, "gamma must be a number in (0, 1]");
  }
  if (!(options.tau >= 0 && std::isfinite(options.tau))) {
    throw Error(ErrorCode::kInvalidArgument, "tau must be a number that is not negative");
  }
  if (options.min_tiles < 0) {
    throw Error(ErrorCode::kInvalidArgument, "min_tiles must not be negative");
  }
}

}  // namespace longshadow

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_support.h"

/// Limits far beyond what a prompt holds, as a pattern file may say them: the result is that of the
/// limits that fit, and the work does not grow with the square of the prompt.
namespace longshadow::conformance {
namespace {

constexpr std::int64_t kEndless = std::numeric_limits<std::int64_t>::max();

HeadBudget VerticalSlash(std::int64_t columns, std::int64_t distances, std::int64_t tiles) {
  return {HeadPattern::kVerticalSlash, columns, distances, tiles};
}

std::vector<float> RandomMasses(std::mt19937_64& generator, std::int64_t keys) {
  std::vector<float> masses(static_cast<std::size_t>(keys));
  for (float& mass : masses) mass = static_cast<float>(generator() % (1U << 20));
  return masses;
}

TEST(SparseLimits, BeyondTheKeysAreThoseOfTheKeys) {
  std::mt19937_64 generator = TestGenerator();
  for (const std::int64_t keys : {40, 700, 3000}) {
    const std::vector<float> vertical = RandomMasses(generator, keys);
    const std::vector<float> slash = RandomMasses(generator, keys);
    for (const std::int64_t tiles : {INT64_C(0), INT64_C(5), INT64_C(30), INT64_C(90), kEndless}) {
      const HeadSelection want = ChooseLines(vertical, slash, VerticalSlash(keys, keys, tiles));
      for (const std::int64_t lines : {INT64_C(1'000'000), kEndless}) {
        const HeadSelection got = ChooseLines(vertical, slash, VerticalSlash(lines, lines, tiles));
        EXPECT_EQ(got.columns, want.columns) << keys << " keys, " << tiles << " tiles";
        EXPECT_EQ(got.distances, want.distances) << keys << " keys, " << tiles << " tiles";
      }
    }
  }
}

/// The largest sum where the nearer of two distances always has the larger mass: n of them cost
/// ceil((n - 1) / 64) + 1 tiles.
double BestSumOfNearest(const std::vector<double>& columns, const std::vector<double>& distances,
                        std::int64_t tiles) {
  double best = 0;
  for (std::int64_t n = kForcedDistances; n < std::ssize(distances); ++n) {
    const std::int64_t room = (tiles - (n + 62) / 64 - 1) * kBlockTokens;
    if (room < kForcedColumns) break;
    const auto j = static_cast<std::size_t>(std::min<std::int64_t>(room, std::ssize(columns) - 1));
    best = std::max(best, columns[j] + distances[static_cast<std::size_t>(n)]);
  }
  return best;
}

TEST(SparseLimits, OfManyDistancesThatShiftOneAnotherAreMetInTime) {
  // Each distance lies one beyond the farthest so far, and with it every tile of the run moves.
  constexpr std::int64_t kKeys = 1 << 19;
  std::vector<float> vertical(kKeys);
  std::vector<float> slash(kKeys);
  std::vector<double> columns = {0};
  std::vector<double> distances = {0};
  for (std::int64_t i = 0; i < kKeys; ++i) {
    vertical[static_cast<std::size_t>(i)] = 1 / static_cast<float>(3 * i + 300'000);
    slash[static_cast<std::size_t>(i)] = 1 / static_cast<float>(i + 200'000);
    columns.push_back(columns.back() + static_cast<double>(vertical[static_cast<std::size_t>(i)]));
    distances.push_back(distances.back() + static_cast<double>(slash[static_cast<std::size_t>(i)]));
  }
  for (const std::int64_t tiles : {512, 2000, 6000}) {
    const HeadSelection head =
        ChooseLines(vertical, slash, VerticalSlash(1'000'000, 1'000'000, tiles));
    const auto n = std::ssize(head.distances);
    EXPECT_LE(SlashTiles(head.distances) * kBlockTokens + std::ssize(head.columns),
              tiles * kBlockTokens);
    const double sum = columns[head.columns.size()] + distances[head.distances.size()];
    const double best = BestSumOfNearest(columns, distances, tiles);
    EXPECT_GE(sum, best * (n > 32'768 ? 1 - 1.0 / 128 : 1 - 1e-9)) << tiles << " tiles";
  }
}

TEST(SparseLimits, OfNearKeysThatReachTheFirstAreCutForEachBlock) {
  constexpr std::int64_t kKeys = 1 << 20;
  constexpr std::int64_t kRows = 16'384;
  const HeadSelection head = AShapeSelection({HeadPattern::kAShape, 0, kEndless, 0}, kKeys);
  ASSERT_EQ(std::ssize(head.distances), kKeys);
  const SparseIndex index =
      BuildIndex({kKeys - kRows, kRows, {head, head, head, head}}, kKeys - kRows, kRows);
  ASSERT_EQ(std::ssize(index.ranges), 4 * index.blocks);
  for (std::int64_t entry = 0; entry < 4 * index.blocks; ++entry) {
    const std::int64_t end = kKeys - kRows + (entry % index.blocks + 1) * kBlockTokens;
    EXPECT_EQ(index.ranges[static_cast<std::size_t>(entry)],
              (KeyRange{0, static_cast<std::uint32_t>(end)}));
  }
}

/// RunsOfDistances one distance at a time, from the farthest.
std::vector<KeyRange> RunsOneByOne(std::span<const std::uint32_t> distances,
                                   std::int64_t position) {
  std::vector<KeyRange> runs;
  for (std::size_t i = distances.size(); i-- > 0;) {
    const std::int64_t meets = position + kBlockTokens - distances[i];
    if (meets <= 0) continue;
    const auto wanted = static_cast<std::uint32_t>(std::max(meets, kBlockTokens));
    if (!runs.empty() && wanted <= runs.back().end) continue;
    if (!runs.empty() && wanted <= runs.back().end + kBlockTokens) {
      runs.back().end += kBlockTokens;
    } else {
      runs.push_back({static_cast<std::uint32_t>(wanted - kBlockTokens), wanted});
    }
  }
  return runs;
}

TEST(SparseLimits, RunsAndColumnsAreThoseOfAWalkOneByOne) {
  std::mt19937_64 generator = TestGenerator();
  for (int round = 0; round < 200; ++round) {
    const auto position = static_cast<std::int64_t>(generator() % 60) * kBlockTokens;
    const auto count = static_cast<std::int64_t>(generator() % 400);
    HeadSelection head = RandomLineHead(generator, {position, 64}, count, 400 - count);
    if (round % 3 == 0) {  // a dense stretch
      for (std::uint32_t d = 1; d < 300 && d < position + 64; ++d) head.distances.push_back(d);
      std::ranges::sort(head.distances);
      const auto repeated = std::ranges::unique(head.distances);
      head.distances.erase(repeated.begin(), repeated.end());
    }
    const std::vector<KeyRange> runs = RunsOneByOne(head.distances, position);
    ASSERT_TRUE(RunsOfDistances(head.distances, position) == runs) << "round " << round;
    std::vector<std::uint32_t> want;
    for (const std::uint32_t column : head.columns) {
      const bool in_run = std::ranges::any_of(
          runs, [&](const KeyRange& run) { return column >= run.begin && column < run.end; });
      if (column < position && !in_run) want.push_back(column);
    }
    std::vector<KeyRange> ranges;
    std::vector<std::uint32_t> columns;
    LinesToKeys(head, position, 64, ranges, columns);
    ASSERT_EQ(columns, want) << "round " << round;
  }
}

}  // namespace
}  // namespace longshadow::conformance

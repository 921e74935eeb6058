#include <cmath>
#include <limits>
#include <numeric>

#include "sparse/slash_tile_counter.h"
#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::First;
using sparse_test::Random;
using Lines = std::vector<std::uint32_t>;
using Scores = std::vector<float>;

HeadBudget VerticalSlash(std::int64_t columns, std::int64_t distances, std::int64_t tiles) {
  return {HeadPattern::kVerticalSlash, columns, distances, tiles};
}

/// Tiles that a choice costs a query block, columns 64 to a tile.
std::int64_t TilesOf(const HeadSelection& head) {
  const auto columns = static_cast<std::int64_t>(head.columns.size());
  return SlashTiles(head.distances) + (columns + kBlockTokens - 1) / kBlockTokens;
}

/// The forced lines, then the others by score and position.
Lines Order(const Scores& scores, std::int64_t forced) {
  Lines order = First(static_cast<std::int64_t>(scores.size()));
  const auto first = order.begin() + std::min<std::ptrdiff_t>(forced, std::ssize(order));
  std::stable_sort(first, order.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
  return order;
}

Lines Prefix(const Lines& order, std::int64_t count) {
  Lines prefix(order.begin(), order.begin() + count);
  std::ranges::sort(prefix);
  return prefix;
}

double SumOf(const Scores& scores, const Lines& lines) {
  return std::accumulate(lines.begin(), lines.end(), 0.0,
                         [&](double sum, auto line) { return sum + scores[line]; });
}

/// Masses that are multiples of 2^-12, so that sums are exact; many are equal, most are small.
Scores DrawScores(Random& random, std::int64_t keys) {
  Scores scores(keys);
  for (float& score : scores) {
    score = static_cast<float>(random.Chance(0.1) ? random.Below(4000) : random.Below(20)) / 4096;
  }
  return scores;
}

/// The most that prefixes of both orders sum to within the budget; -1 where the forced do not fit.
double BestSum(const Scores& vertical, const Scores& slash, const HeadBudget& budget) {
  const auto keys = static_cast<std::int64_t>(vertical.size());
  const Lines columns = Order(vertical, kForcedColumns);
  const Lines distances = Order(slash, kForcedDistances);
  const std::int64_t most_columns = std::min(keys, std::max(budget.columns, kForcedColumns));
  const std::int64_t most_distances = std::min(keys, std::max(budget.distances, kForcedDistances));
  double best = -1;
  for (std::int64_t k = std::min(keys, kForcedDistances); k <= most_distances; ++k) {
    const Lines chosen = Prefix(distances, k);
    const std::int64_t room = (budget.tiles - SlashTiles(chosen)) * kBlockTokens;
    for (std::int64_t j = std::min(keys, kForcedColumns); j <= most_columns && j <= room; ++j) {
      best = std::max(best, SumOf(slash, chosen) + SumOf(vertical, Prefix(columns, j)));
    }
  }
  return best;
}

TEST(ChooseLines, TakesTheBestPrefixesThatFit) {
  Random random;
  int limited = 0;
  for (int round = 0; round < 120; ++round) {
    const std::int64_t keys = 20 + random.Below(round % 2 == 0 ? 180 : 420);
    const Scores vertical = DrawScores(random, keys);
    const Scores slash = DrawScores(random, keys);
    const HeadBudget budget =
        VerticalSlash(random.Below(keys + 20), random.Below(keys + 20), 1 + random.Below(11));
    const HeadSelection head = ChooseLines(vertical, slash, budget);
    const double best = BestSum(vertical, slash, budget);
    if (best < 0) {
      EXPECT_EQ(head.columns, First(std::min(keys, kForcedColumns)));
      EXPECT_EQ(head.distances, First(std::min(keys, kForcedDistances)));
      continue;
    }
    limited += TilesOf(head) == budget.tiles ? 1 : 0;
    ASSERT_LE(TilesOf(head), budget.tiles) << "round " << round;
    ASSERT_EQ(SumOf(vertical, head.columns) + SumOf(slash, head.distances), best)
        << "round " << round;
    ASSERT_EQ(head.columns, Prefix(Order(vertical, kForcedColumns), std::ssize(head.columns)));
    ASSERT_EQ(head.distances, Prefix(Order(slash, kForcedDistances), std::ssize(head.distances)));
  }
  EXPECT_GT(limited, 20);
}

TEST(ChooseLines, KeepsToTilesAndLimitsOnLongPrompts) {
  Random random;
  for (int round = 0; round < 40; ++round) {
    const std::int64_t keys = 5000 + random.Below(60000);
    Scores vertical(keys);
    Scores slash(keys);
    for (float& score : vertical) score = static_cast<float>(random.Below(1 << 20));
    for (const std::uint32_t distance : random.Lines(2000, keys)) {
      slash[distance] = static_cast<float>(random.Below(1 << 24));
    }
    const HeadBudget budget = VerticalSlash(1000, 3000, 4 + random.Below(200));
    const HeadSelection head = ChooseLines(vertical, slash, budget);
    ASSERT_LE(TilesOf(head), budget.tiles);
    ASSERT_GT(TilesOf(head), std::min<std::int64_t>(budget.tiles, 50) - 2);
    ASSERT_LE(std::ssize(head.columns), 1000);
    ASSERT_LE(std::ssize(head.distances), 3000);
    ASSERT_TRUE(std::ranges::includes(head.columns, First(kForcedColumns)));
    ASSERT_TRUE(std::ranges::includes(head.distances, First(kForcedDistances)));
    const HeadSelection again = ChooseLines(vertical, slash, budget);
    ASSERT_EQ(again.columns, head.columns);
    ASSERT_EQ(again.distances, head.distances);
  }
}

TEST(ChooseLines, TakesThePlantedColumnAndDiagonal) {
  const std::int64_t keys = 10000;
  Random random;
  const auto column = static_cast<std::uint32_t>(30 + random.Below(keys - 30));
  const auto distance = static_cast<std::uint32_t>(100 + random.Below(keys - 100));
  Scores vertical(keys, 1e-4F);
  Scores slash(keys, 1e-4F);
  vertical[column] = 20;
  slash[distance] = 20;
  for (const std::int64_t tiles : {0, 5, 64}) {
    const HeadSelection head = ChooseLines(vertical, slash, VerticalSlash(31, 101, tiles));
    EXPECT_EQ(head.form, HeadSelection::Form::kLines);
    EXPECT_TRUE(std::ranges::binary_search(head.columns, column)) << tiles;
    EXPECT_TRUE(std::ranges::binary_search(head.distances, distance)) << tiles;
    EXPECT_EQ(head.columns.size(), 31U);
    EXPECT_EQ(head.distances.size(), 101U);
  }
}

TEST(ChooseLines, TakesEverythingThatLargeBudgetsAllow) {
  for (const std::int64_t keys : {1, 29, 64, 65, 66, 100, 127, 128, 129, 700}) {
    const Scores scores(keys, 0.5F);
    for (const std::int64_t tiles : {INT64_C(0), 2 * (keys / 64 + 2), INT64_MAX}) {
      const HeadSelection head =
          ChooseLines(scores, scores, VerticalSlash(INT64_MAX, INT64_MAX, tiles));
      EXPECT_EQ(head.columns, First(keys)) << tiles;
      EXPECT_EQ(head.distances, First(keys)) << tiles;
    }
  }
}

TEST(ChooseLines, RaisesLimitsToWhatIsForced) {
  const Scores scores(1000, 0.5F);
  for (const std::int64_t tiles : {0, 1, 4, 9}) {
    const HeadSelection head = ChooseLines(scores, scores, VerticalSlash(0, 0, tiles));
    EXPECT_EQ(head.columns, First(kForcedColumns)) << tiles;
    EXPECT_EQ(head.distances, First(kForcedDistances)) << tiles;
  }
}

TEST(ChooseLines, AddsNothingWhereForcedLinesPassTheTiles) {
  const Scores scores(1000, 0.5F);
  const HeadSelection head = ChooseLines(scores, scores, VerticalSlash(500, 500, 3));
  EXPECT_EQ(head.columns, First(kForcedColumns));
  EXPECT_EQ(head.distances, First(kForcedDistances));
}

TEST(ChooseLines, LivesWithScoresThatAreNoMasses) {
  for (const float rest : {std::nanf(""), -1.0F, -std::numeric_limits<float>::infinity()}) {
    for (const float value : {2.0F, std::numeric_limits<float>::infinity()}) {
      Scores odd(1000, rest);
      odd[500] = value;
      const HeadSelection head = ChooseLines(odd, odd, VerticalSlash(100, 300, 8));
      EXPECT_TRUE(std::ranges::binary_search(head.columns, 500U)) << rest;
      EXPECT_TRUE(std::ranges::binary_search(head.distances, 500U)) << rest;
      EXPECT_EQ(TilesOf(head), 8) << rest;  // the room is used
    }
  }
}

TEST(SlashTileCounter, CountsWhatSlashTilesCounts) {
  Random random;
  for (int round = 0; round < 400; ++round) {
    const std::int64_t keys = 1 + random.Below(6000);
    Lines order = random.Lines(random.Below(150), keys);
    std::ranges::shuffle(order, random.bits());
    SlashTileCounter counter(keys);
    Lines inserted;
    std::int64_t before = 0;
    for (const std::uint32_t distance : order) {
      counter.Insert(distance);
      inserted.insert(std::ranges::upper_bound(inserted, distance), distance);
      ASSERT_EQ(counter.tiles(), SlashTiles(inserted)) << "round " << round;
      ASSERT_GE(counter.tiles(), before);
      before = counter.tiles();
    }
  }
}

TEST(NumberSet, FindsTheNextSmallerMember) {
  Random random;
  for (const std::int64_t bound : {1, 63, 64, 65, 4095, 4096, 4097, 300000}) {
    NumberSet set(bound);
    EXPECT_EQ(set.LargestBelow(bound), -1);
    Lines members = random.Lines(1 + random.Below(60), bound);
    for (const std::uint32_t member : members) set.Insert(member);
    for (int i = 0; i < 200; ++i) {
      const std::int64_t limit = i == 0 ? bound : random.Below(bound + 1);
      const auto above = std::ranges::lower_bound(members, limit);
      const std::int64_t want = above == members.begin() ? -1 : std::int64_t{*(above - 1)};
      ASSERT_EQ(set.LargestBelow(limit), want) << limit << " of " << bound;
    }
  }
}

}  // namespace
}  // namespace longshadow

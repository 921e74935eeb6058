#include <cmath>
#include <limits>
#include <numeric>

#include "sparse/score_rank.h"
#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::First;
using sparse_test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

/// The first `count` by a stable sort with NaN last, ascending.
std::vector<std::uint32_t> BySorting(const std::vector<float>& scores, std::int64_t count) {
  std::vector<std::uint32_t> order = First(static_cast<std::int64_t>(scores.size()));
  std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
    if (std::isnan(scores[a])) return false;
    return std::isnan(scores[b]) || scores[a] > scores[b];
  });
  order.resize(std::clamp<std::size_t>(count, 0, scores.size()));
  std::ranges::sort(order);
  return order;
}

TEST(LargestScores, TakesTheLargestAndOfEqualOnesTheFirst) {
  const std::vector<float> scores = {1, 5, 3, 5, -2, 5, 0, -0.0F};
  using Positions = std::vector<std::uint32_t>;
  EXPECT_EQ(LargestScores(scores, 1), Positions({1}));
  EXPECT_EQ(LargestScores(scores, 2), Positions({1, 3}));
  EXPECT_EQ(LargestScores(scores, 4), Positions({1, 2, 3, 5}));
  EXPECT_EQ(LargestScores(scores, 6), Positions({0, 1, 2, 3, 5, 6}));  // 0 and -0 are equal
}

TEST(LargestScores, TakesNothingOrAllAtTheEnds) {
  const std::vector<float> scores = {kNan, 2, kNan};
  EXPECT_TRUE(LargestScores(scores, 0).empty());
  EXPECT_TRUE(LargestScores(scores, -5).empty());
  EXPECT_EQ(LargestScores(scores, 3), First(3));
  EXPECT_EQ(LargestScores(scores, INT64_MAX), First(3));
  EXPECT_TRUE(LargestScores({}, 4).empty());
}

TEST(LargestScores, PutsNanBelowMinusInfinity) {
  const std::vector<float> scores = {kNan, -kInfinity, -kNan, kInfinity, -3e38F, kNan};
  using Positions = std::vector<std::uint32_t>;
  EXPECT_EQ(LargestScores(scores, 1), Positions({3}));
  EXPECT_EQ(LargestScores(scores, 3), Positions({1, 3, 4}));
  EXPECT_EQ(LargestScores(scores, 4), Positions({0, 1, 3, 4}));
  EXPECT_EQ(LargestScores(scores, 5), Positions({0, 1, 2, 3, 4}));
}

/// Scores of many shapes: few values, all bit patterns, masses over many powers of two, one value.
float DrawScore(Random& random, int shape) {
  switch (shape) {
    case 0:
      return static_cast<float>(random.Below(4)) - 1.0F;
    case 1:
      return std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()()));
    case 2:
      return std::exp2(-static_cast<float>(random.Below(140)));
    case 3:
      return 0.25F;
    case 4:
      return 1.0F + static_cast<float>(random.Below(5000)) * 0x1p-23F;  // differ in low bits
    default:
      return std::vector<float>{kNan, kInfinity, -kInfinity, 0.0F, -0.0F, 1e-40F}[random.Below(6)];
  }
}

TEST(LargestScores, AgreesWithAStableSort) {
  Random random;
  for (int round = 0; round < 600; ++round) {
    std::vector<float> scores(random.Below(round % 10 == 0 ? 20000 : 300));
    const int shape = round % 6;
    for (float& score : scores) score = DrawScore(random, random.Chance(0.9) ? shape : 5);
    const std::int64_t count = random.Below(static_cast<std::int64_t>(scores.size()) + 3);
    ASSERT_EQ(LargestScores(scores, count), BySorting(scores, count))
        << "shape " << shape << ", " << count << " of " << scores.size();
  }
}

TEST(LargestScores, TakesFromAMillion) {
  Random random;
  std::vector<float> scores((1 << 20) + 13);
  for (float& score : scores) score = DrawScore(random, 2);
  EXPECT_EQ(LargestScores(scores, 6096), BySorting(scores, 6096));
  EXPECT_EQ(LargestScores(scores, 900001), BySorting(scores, 900001));
}

TEST(ScoreRank, OrdersAsFloatsDo) {
  const std::vector<float> ascending = {-kInfinity, -3e38F, -1,   -1e-40F, 0,
                                        1e-40F,     1e-20F, 1.5F, 3e38F,   kInfinity};
  for (std::size_t i = 1; i < ascending.size(); ++i) {
    EXPECT_LT(ScoreRank(ascending[i - 1]), ScoreRank(ascending[i])) << i;
  }
  EXPECT_EQ(ScoreRank(-0.0F), ScoreRank(0.0F));
  EXPECT_EQ(ScoreRank(kNan), 0U);
  EXPECT_EQ(ScoreRank(-kNan), 0U);
}

}  // namespace
}  // namespace longshadow

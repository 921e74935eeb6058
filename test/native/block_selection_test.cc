#include "longshadow/block_selection.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "test/native/block_test_support.h"

namespace longshadow {
namespace {

using sparse_test::AllOf;
using sparse_test::BlocksOf;
using sparse_test::Check;
using sparse_test::CutTo;
using sparse_test::DrawChunk;
using sparse_test::DrawDistribution;
using sparse_test::Random;
using sparse_test::Row;
using sparse_test::RowsOf;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Scores with ties, of both signs.
std::vector<Row> DrawScores(Random& random, const ChunkBlocks& chunk) {
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    rows.emplace_back();
    for (std::int64_t b = 0; b < chunk.Visible(i); ++b) {
      rows.back().push_back(static_cast<float>(random.Below(12) - 6));
    }
  }
  return rows;
}

TEST(LargestBlocks, AreThoseOfASortWithTheSinkAndTheDiagonal) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    Random random;
    const ChunkBlocks chunk = DrawChunk(random);
    const std::vector<Row> rows = DrawScores(random, chunk);
    const std::int64_t tiles = 1 + random.Below(chunk.Keys() + 2);
    const HeadSelection head = LargestBlocks(chunk, RowsOf(rows), tiles);
    Check(chunk, head);
    for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
      ASSERT_EQ(BlocksOf(head, i), CutTo(tiles, rows[i], AllOf(chunk.Visible(i))))
          << "query block " << i << ", tiles " << tiles;
    }
  }
}

TEST(LargestBlocks, FindABlockThatStandsOut) {
  Random random;
  const ChunkBlocks chunk{40 * kBlockTokens, 5 * kBlockTokens};
  std::vector<Row> rows = DrawScores(random, chunk);
  const auto planted = static_cast<std::uint32_t>(1 + random.Below(39));
  for (Row& row : rows) row[planted] = 7;
  const HeadSelection head = LargestBlocks(chunk, RowsOf(rows), 3);
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    const auto own = static_cast<std::uint32_t>(chunk.Visible(i) - 1);
    EXPECT_EQ(BlocksOf(head, i), (sparse_test::Blocks{0, planted, own}));
  }
}

TEST(LargestBlocks, OfAScoreThatIsNoNumberMakeTheHeadDense) {
  Random random;
  const ChunkBlocks chunk = DrawChunk(random);
  std::vector<Row> rows = DrawScores(random, chunk);
  Row& row = rows[static_cast<std::size_t>(random.Below(chunk.Queries()))];
  row[static_cast<std::size_t>(random.Below(static_cast<std::int64_t>(row.size())))] = kNaN;
  const HeadSelection head = LargestBlocks(chunk, RowsOf(rows), 2);
  EXPECT_EQ(head.form, HeadSelection::Form::kDense);
  Check(chunk, head);
}

TEST(CountForMass, IsTheLeastNumberOfMassesThatReachTheShare) {
  for (int repeat = 0; repeat < 500; ++repeat) {
    Random random;
    const Row masses = DrawDistribution(random, 1 + random.Below(400));
    const auto share = static_cast<float>(random.Below(1000)) / 1000;
    Row order = masses;
    std::ranges::sort(order, std::greater());
    std::int64_t count = 0;
    for (double sum = 0; sum < static_cast<double>(share); ++count) {
      sum += static_cast<double>(order[static_cast<std::size_t>(count)]);
    }
    ASSERT_EQ(CountForMass(masses, share), count) << "share " << share;
  }
}

TEST(CountForMass, OfAllMassIsAllThatHaveSome) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    Random random;
    Row masses = DrawDistribution(random, 1 + random.Below(400));
    masses.push_back(1e-38F);
    const auto some = std::ranges::count_if(masses, [](float mass) { return mass > 0; });
    EXPECT_EQ(CountForMass(masses, 1), some);
  }
}

TEST(CountForMass, TellsMassesApartThatShareTheirUpperBits) {
  Row masses(5000);
  for (std::size_t i = 0; i < masses.size(); ++i) masses[i] = 1 + static_cast<float>(i) * 0x1p-20F;
  const double total = std::accumulate(masses.begin(), masses.end(), 0.0);
  std::ranges::shuffle(masses, Random().bits());
  Row order = masses;
  std::ranges::sort(order, std::greater());
  double sum = 0;
  std::int64_t count = 0;
  while (sum < 0.5 * total) sum += static_cast<double>(order[static_cast<std::size_t>(count++)]);
  EXPECT_EQ(CountForMass(masses, 0.5F), count);
}

TEST(CountForMass, TakesWhatIsNoNumberWithoutHarm) {
  const Row masses = {0.25F, kNaN, 0.5F, std::numeric_limits<float>::infinity(), -1, 0};
  for (const float share : {0.0F, 0.5F, 0.95F, 1.0F}) {
    EXPECT_LE(CountForMass(masses, share), std::ssize(masses));
  }
  EXPECT_EQ(CountForMass({}, 0.5F), 0);
}

TEST(JensenShannonDistance, IsZeroForOneDistributionAndLargestForDisjointOnes) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    Random random;
    const Row e = DrawDistribution(random, 50);
    EXPECT_EQ(JensenShannonDistance(e, e), 0);
  }
  const Row left = {0.5F, 0.5F, 0, 0};
  const Row right = {0, 0, 0.25F, 0.75F};
  EXPECT_DOUBLE_EQ(JensenShannonDistance(left, right), std::sqrt(std::log(2.0)));
}

TEST(JensenShannonDistance, IsTheFormulas) {
  const Row e = {0.5F, 0.25F, 0.25F};
  const Row p = {0.125F, 0.875F, 0};
  // m = (0.3125, 0.5625, 0.125)
  const double kl_e = 0.5 * std::log(1.6) + 0.25 * std::log(4.0 / 9) + 0.25 * std::log(2.0);
  const double kl_p = 0.125 * std::log(0.4) + 0.875 * std::log(14.0 / 9);
  EXPECT_NEAR(JensenShannonDistance(e, p), std::sqrt(0.5 * kl_e + 0.5 * kl_p), 1e-15);
  EXPECT_EQ(JensenShannonDistance(e, p), JensenShannonDistance(p, e));
  EXPECT_TRUE(std::isnan(JensenShannonDistance(e, Row{0.5F, 0.5F, kNaN})));
}

}  // namespace
}  // namespace longshadow

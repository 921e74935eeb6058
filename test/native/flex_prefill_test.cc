#include <cmath>
#include <limits>
#include <numeric>

#include "longshadow/block_selection.h"
#include "test/native/block_test_support.h"

namespace longshadow {
namespace {

using sparse_test::AllOf;
using sparse_test::Blocks;
using sparse_test::BlocksOf;
using sparse_test::Check;
using sparse_test::CutTo;
using sparse_test::DrawChunk;
using sparse_test::DrawDistributions;
using sparse_test::DrawMasses;
using sparse_test::IsWithin;
using sparse_test::Largest;
using sparse_test::Random;
using sparse_test::Refusal;
using sparse_test::Row;
using sparse_test::RowsOf;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

FlexOptions Options(float gamma, std::int64_t min_tiles) { return {gamma, 0.1F, min_tiles}; }

/// The key blocks of query block i by the rule's words.
Blocks LinesOf(const ChunkBlocks& chunk, std::int64_t i, const FlexMasses& masses,
               std::int64_t verticals, std::int64_t slashes, std::int64_t tiles) {
  const auto clip = [&](std::int64_t count) {
    return std::max<std::int64_t>(1, tiles > 0 ? std::min(count, tiles) : count);
  };
  const Blocks all = AllOf(chunk.Keys());
  const auto own = static_cast<std::uint32_t>(chunk.Visible(i) - 1);
  Blocks blocks;
  for (const std::uint32_t b : Largest(masses.vertical, all, {0}, clip(verticals))) {
    if (b <= own) blocks.insert(b);
  }
  for (const std::uint32_t s : Largest(masses.slash, all, {0}, clip(slashes))) {
    if (s <= own) blocks.insert(own - s);
  }
  return blocks;
}

TEST(VerticalSlashBlocks, AreThoseOfTheRulesWords) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    Random random;
    const ChunkBlocks chunk = DrawChunk(random);
    const FlexMasses masses = DrawMasses(random, chunk);
    const std::int64_t least = random.Below(6);
    const std::int64_t tiles = random.Chance(0.5) ? 0 : 1 + random.Below(chunk.Keys());
    const HeadSelection head = VerticalSlashBlocks(chunk, masses, least, tiles);
    Check(chunk, head);
    for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
      Row scores;
      const auto own = static_cast<std::size_t>(chunk.Visible(i) - 1);
      for (std::size_t b = 0; b <= own; ++b) {
        scores.push_back(masses.vertical[b] + masses.slash[own - b]);
      }
      const Blocks lines = LinesOf(chunk, i, masses, std::max(least, masses.vertical_blocks),
                                   std::max(least, masses.slash_blocks), tiles);
      ASSERT_EQ(BlocksOf(head, i), CutTo(tiles, scores, lines)) << "query block " << i;
    }
  }
}

/// The entries of all rows in order of probability, ties by row and block, while they sum to no
/// more than the share.
std::vector<Blocks> MostProbable(const std::vector<Row>& rows, double gamma) {
  struct Entry {
    float probability;
    std::size_t row;
    std::uint32_t block;
  };
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::uint32_t b = 0; b < rows[i].size(); ++b) entries.push_back({rows[i][b], i, b});
  }
  std::ranges::stable_sort(entries, std::greater(), &Entry::probability);
  std::vector<Blocks> kept(rows.size());
  double sum = 0;
  for (const Entry& entry : entries) {
    sum += static_cast<double>(entry.probability);
    if (sum > gamma * static_cast<double>(rows.size()) || entry.probability == 0) break;
    kept[entry.row].insert(entry.block);
  }
  return kept;
}

TEST(QueryAwareBlocks, AreTheMostProbableOfAllRowsWithTheLeastLines) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    Random random;
    const ChunkBlocks chunk = DrawChunk(random);
    const FlexMasses masses = DrawMasses(random, chunk);
    const std::vector<Row> rows = DrawDistributions(random, chunk);
    const FlexOptions options =
        Options(static_cast<float>(random.Below(1025)) / 1024, random.Below(6));
    const std::int64_t tiles = random.Chance(0.5) ? 0 : 1 + random.Below(chunk.Keys());
    const HeadSelection head = QueryAwareBlocks(chunk, RowsOf(rows), masses, options, tiles);
    Check(chunk, head);
    const std::vector<Blocks> probable = MostProbable(rows, static_cast<double>(options.gamma));
    for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
      Blocks blocks = LinesOf(chunk, i, masses, options.min_tiles, options.min_tiles, tiles);
      blocks.insert(probable[i].begin(), probable[i].end());
      ASSERT_EQ(BlocksOf(head, i), CutTo(tiles, rows[i], blocks))
          << "query block " << i << ", gamma " << options.gamma << ", tiles " << tiles;
    }
  }
}

TEST(QueryAwareBlocks, OfAllMassAreAllThatHaveSome) {
  Random random;
  const ChunkBlocks chunk = DrawChunk(random);
  std::vector<Row> rows = DrawDistributions(random, chunk);
  for (Row& row : rows) {
    for (float& probability : row) probability = std::max(probability, 1e-38F);
  }
  const HeadSelection head =
      QueryAwareBlocks(chunk, RowsOf(rows), DrawMasses(random, chunk), Options(1, 0), 0);
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    EXPECT_EQ(BlocksOf(head, i), AllOf(chunk.Visible(i)));
  }
}

TEST(QueryAwareBlocks, OfAProbabilityThatIsNoNumberMakeTheHeadDense) {
  Random random;
  const ChunkBlocks chunk = DrawChunk(random);
  std::vector<Row> rows = DrawDistributions(random, chunk);
  rows[static_cast<std::size_t>(random.Below(chunk.Queries()))][0] = kNaN;
  const HeadSelection head =
      QueryAwareBlocks(chunk, RowsOf(rows), DrawMasses(random, chunk), Options(0.9F, 2), 0);
  EXPECT_EQ(head.form, HeadSelection::Form::kDense);
}

/// Lines of an estimate, with what a backend would measure beside them.
struct Measured {
  Row vertical;
  Row slash;
  Row pooled;
  std::vector<Row> rows;

  FlexEstimate Estimate() {
    FlexEstimate estimate;
    estimate.lines = {vertical, slash};
    estimate.line_rows = 1;
    estimate.pooled = pooled;
    estimate.probabilities = RowsOf(rows);
    return estimate;
  }
};

/// pooled: the true mass of key blocks moved by one block where `exact` is false.
Measured Measure(Random& random, const ChunkBlocks& chunk, bool exact) {
  const std::int64_t keys = chunk.position + chunk.rows;
  Measured measured;
  measured.vertical = sparse_test::DrawDistribution(random, keys);
  measured.slash = sparse_test::DrawDistribution(random, keys);
  measured.pooled = SumMasses({measured.vertical, measured.slash}, 1).vertical;
  if (!exact) {
    measured.pooled.assign(measured.pooled.size(), 0);
    measured.pooled.back() = 1;
  }
  measured.rows = DrawDistributions(random, chunk);
  return measured;
}

TEST(FlexBlocks, AreQueryAwareWherePoolingShowsTheTrueMass) {
  Random random;
  const ChunkBlocks chunk{20 * kBlockTokens, 200};
  const FlexOptions options = Options(0.9F, 2);
  const HeadBudget budget{HeadPattern::kFlex, 0, 0, 0};
  for (const bool exact : {true, false}) {
    Measured measured = Measure(random, chunk, exact);
    const FlexMasses masses = SumMasses({measured.vertical, measured.slash}, options.gamma);
    const HeadSelection head = FlexBlocks(chunk, measured.Estimate(), budget, options);
    const HeadSelection aware =
        QueryAwareBlocks(chunk, RowsOf(measured.rows), masses, options, budget.tiles);
    const HeadSelection lines = VerticalSlashBlocks(chunk, masses, options.min_tiles, 0);
    ASSERT_NE(aware.blocks, lines.blocks);
    EXPECT_EQ(head.blocks, exact ? aware.blocks : lines.blocks);
  }
}

TEST(FlexBlocks, GrowWithTheShareOfMass) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    Random random;
    const ChunkBlocks chunk = DrawChunk(random);
    Measured measured = Measure(random, chunk, random.Chance(0.5));
    HeadSelection before = FlexBlocks(chunk, measured.Estimate(), {}, Options(0, 1));
    for (const float gamma : {0.3F, 0.6F, 0.9F, 0.99F, 1.0F}) {
      const HeadSelection head = FlexBlocks(chunk, measured.Estimate(), {}, Options(gamma, 1));
      ASSERT_TRUE(IsWithin(chunk, before, head)) << gamma;
      before = head;
    }
  }
}

TEST(FlexBlocks, OfAllMassSeeEveryBlockThatHasMass) {
  Random random;
  const ChunkBlocks chunk = DrawChunk(random);
  for (const bool exact : {true, false}) {
    Measured measured = Measure(random, chunk, exact);
    for (Row* scores : {&measured.vertical, &measured.slash}) {
      for (float& mass : *scores) mass = std::max(mass, 0x1p-30F);
    }
    for (Row& row : measured.rows) {
      for (float& mass : row) mass = std::max(mass, 0x1p-30F);
    }
    const HeadSelection head = FlexBlocks(chunk, measured.Estimate(), {}, Options(1, 0));
    for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
      EXPECT_EQ(BlocksOf(head, i), AllOf(chunk.Visible(i)));
    }
  }
}

TEST(FlexBlocks, FindAPlantedBlock) {
  Random random;
  const ChunkBlocks chunk{40 * kBlockTokens, 3 * kBlockTokens};
  const std::int64_t keys = chunk.position + chunk.rows;
  const auto planted = static_cast<std::uint32_t>(5 + random.Below(30));
  Measured measured = Measure(random, chunk, false);
  measured.vertical.assign(static_cast<std::size_t>(keys), 0.3F / static_cast<float>(keys));
  measured.slash = measured.vertical;
  measured.slash[0] = 0.7F;
  measured.vertical[planted * kBlockTokens + random.Below(kBlockTokens)] = 0.7F;
  const HeadSelection head = FlexBlocks(chunk, measured.Estimate(), {}, Options(0.5F, 2));
  for (std::int64_t i = 0; i < chunk.Queries(); ++i) {
    EXPECT_TRUE(BlocksOf(head, i).contains(planted));
    EXPECT_LT(BlocksOf(head, i).size(), 6U);
  }
}

TEST(FlexBlocks, OfAnEstimateThatIsNoNumberMakeTheHeadDense) {
  Random random;
  const ChunkBlocks chunk = DrawChunk(random);
  for (Row Measured::*spoilt : {&Measured::vertical, &Measured::slash, &Measured::pooled}) {
    Measured measured = Measure(random, chunk, true);
    (measured.*spoilt).back() = kNaN;
    const HeadSelection head = FlexBlocks(chunk, measured.Estimate(), {}, Options(0.9F, 2));
    EXPECT_EQ(head.form, HeadSelection::Form::kDense);
  }
}

TEST(FlexOptions, AreRefusedOutOfRange) {
  const auto refusal = [](const FlexOptions& options) {
    return Refusal([&] { CheckFlexOptions(options); });
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_NE(refusal({1.5F, 0.1F, 8}).find("gamma"), std::string::npos);
  EXPECT_NE(refusal({kNaN, 0.1F, 8}).find("gamma"), std::string::npos);
  EXPECT_NE(refusal({0, 0.1F, 8}).find("gamma"), std::string::npos) << "it would choose nothing";
  EXPECT_NE(refusal({0.9F, -1, 8}).find("tau"), std::string::npos);
  EXPECT_NE(refusal({0.9F, INFINITY, 8}).find("tau"), std::string::npos);
  EXPECT_NE(refusal({0.9F, 0.1F, -1}).find("min_tiles"), std::string::npos);
}

}  // namespace
}  // namespace longshadow

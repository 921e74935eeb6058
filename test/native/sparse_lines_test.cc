#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::First;
using sparse_test::LinesOf;
using sparse_test::Random;
using Lines = std::vector<std::uint32_t>;
using Ranges = std::vector<KeyRange>;

constexpr int kCases = 3000;

struct BlockKeys {
  Ranges ranges;
  Lines columns;
};

BlockKeys KeysOf(const HeadSelection& head, std::int64_t position, std::int64_t rows) {
  BlockKeys keys;
  LinesToKeys(head, position, rows, keys.ranges, keys.columns);
  return keys;
}

/// Marks the keys below `end` that a query block sees.
std::vector<bool> Seen(const BlockKeys& keys, std::int64_t end) {
  std::vector<bool> seen(end, false);
  for (const KeyRange& range : keys.ranges) {
    for (std::int64_t key = range.begin; key < range.end; ++key) seen.at(key) = true;
  }
  for (const std::uint32_t column : keys.columns) seen.at(column) = true;
  return seen;
}

TEST(SparseLines, AgreeWithThePublishedExample) {
  const Lines distances = {0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 230};
  const HeadSelection head = LinesOf({0, 1, 2, 3, 70, 130, 200, 300, 401}, distances);
  struct Row {
    std::int64_t position;
    Ranges runs;
    Ranges cut;
    Lines columns;
  };
  const std::vector<Row> rows = {
      {0, {{0, 64}}, {{0, 64}}, {}},
      {64, {{0, 128}}, {{0, 128}}, {}},
      {128, {{26, 218}}, {{26, 192}}, {0, 1, 2, 3}},
      {256, {{26, 90}, {154, 346}}, {{26, 90}, {154, 320}}, {0, 1, 2, 3, 130}},
      {448, {{218, 282}, {346, 538}}, {{218, 282}, {346, 512}}, {0, 1, 2, 3, 70, 130, 200, 300}},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(RunsOfDistances(distances, row.position), row.runs) << row.position;
    const BlockKeys keys = KeysOf(head, row.position, 64);
    EXPECT_EQ(keys.ranges, row.cut) << row.position;
    EXPECT_EQ(keys.columns, row.columns) << row.position;
  }
  EXPECT_EQ(SlashTiles(distances), 4);
}

TEST(SparseLines, AreAppendedToWhatIsThere) {
  BlockKeys keys{{{1, 2}}, {3}};
  LinesToKeys(LinesOf({5}, {0}), 128, 10, keys.ranges, keys.columns);
  EXPECT_EQ(keys.ranges, (Ranges{{1, 2}, {128, 138}}));
  EXPECT_EQ(keys.columns, Lines({3, 5}));
}

TEST(SparseLines, OfNoDistanceAreColumnsAlone) {
  EXPECT_TRUE(RunsOfDistances({}, 128).empty());
  EXPECT_TRUE(RunsOfDistances(Lines{192, 500}, 128).empty());
  EXPECT_EQ(SlashTiles({}), 0);
  EXPECT_EQ(KeysOf(LinesOf({5, 127, 128, 200}, {}), 128, 64).columns, Lines({5, 127}));
}

TEST(SparseLines, ReachMillionsOfKeys) {
  const std::int64_t position = (INT64_C(1) << 32) - 128;
  const Lines distances = {0, 4000000000};
  EXPECT_EQ(RunsOfDistances(distances, position),
            (Ranges{{294967168, 294967232}, {4294967168, 4294967232}}));
  EXPECT_EQ(KeysOf(LinesOf({7, 4294967167}, distances), position, 64).columns,
            Lines({7, 4294967167}));
}

/// Runs ascend, do not touch, are whole tiles, and each tile is asked for by some distance.
void CheckRuns(const Ranges& runs, const Lines& distances, std::int64_t position) {
  std::int64_t last = -1;
  for (const KeyRange& run : runs) {
    ASSERT_GT(static_cast<std::int64_t>(run.begin), last);
    ASSERT_LT(run.begin, run.end);
    ASSERT_EQ((run.end - run.begin) % kBlockTokens, 0);
    ASSERT_LT(run.end, position + 2 * kBlockTokens);
    for (std::int64_t end = run.begin + kBlockTokens; end <= run.end; end += kBlockTokens) {
      ASSERT_TRUE(std::ranges::any_of(distances, [&](std::int64_t distance) {
        if (distance >= position + kBlockTokens) return false;
        const std::int64_t meets = std::max(position + kBlockTokens - distance, kBlockTokens);
        return meets <= end && meets > end - kBlockTokens;
      }));
    }
    last = run.end;
  }
}

/// The cut runs are the runs but for their ends; columns ascend before the block, in no run.
void CheckCut(const BlockKeys& keys, const Ranges& runs, std::int64_t position, std::int64_t rows) {
  ASSERT_EQ(keys.ranges.size(), runs.size());
  std::vector<bool> in_run(position + rows, false);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    ASSERT_EQ(keys.ranges[i].begin, runs[i].begin);
    ASSERT_EQ(keys.ranges[i].end, std::min<std::int64_t>(runs[i].end, position + rows));
    ASSERT_LT(keys.ranges[i].begin, keys.ranges[i].end);
    for (std::int64_t key = runs[i].begin; key < keys.ranges[i].end; ++key) in_run[key] = true;
  }
  for (std::size_t i = 0; i < keys.columns.size(); ++i) {
    ASSERT_LT(keys.columns[i], position);
    ASSERT_FALSE(in_run[keys.columns[i]]);
    ASSERT_TRUE(i == 0 || keys.columns[i - 1] < keys.columns[i]);
  }
}

TEST(SparseLines, CoverEveryPairThatIsAskedFor) {
  Random random;
  for (int round = 0; round < kCases; ++round) {
    const std::int64_t position = random.Below(30) * kBlockTokens;
    const std::int64_t rows = random.Chance(0.5) ? kBlockTokens : 1 + random.Below(kBlockTokens);
    const std::int64_t end = position + rows;
    HeadSelection head = LinesOf(random.Lines(random.Below(50), end),
                                 random.Lines(random.Below(80), end + random.Below(100)));
    if (head.distances.empty() || head.distances[0] > 0) {
      head.distances.insert(head.distances.begin(), 0);
    }
    const Ranges runs = RunsOfDistances(head.distances, position);
    ASSERT_NO_FATAL_FAILURE(CheckRuns(runs, head.distances, position)) << "round " << round;
    const BlockKeys keys = KeysOf(head, position, rows);
    ASSERT_NO_FATAL_FAILURE(CheckCut(keys, runs, position, rows)) << "round " << round;
    const std::vector<bool> seen = Seen(keys, end);
    for (std::int64_t row = position; row < end; ++row) {
      for (const std::int64_t distance : head.distances) {
        ASSERT_TRUE(distance > row || seen[row - distance]) << row << ' ' << distance;
      }
      for (const std::int64_t column : head.columns) {
        ASSERT_TRUE(column > row || seen[column]) << row << ' ' << column;
      }
    }
  }
}

TEST(SparseLines, OfAnAShapeContainItAndLittleMore) {
  Random random;
  for (int round = 0; round < 300; ++round) {
    const std::int64_t position = random.Below(40) * kBlockTokens;
    const std::int64_t rows = 1 + random.Below(kBlockTokens);
    const HeadBudget budget{HeadPattern::kAShape, random.Below(300), 1 + random.Below(600)};
    const BlockKeys keys = KeysOf(AShapeSelection(budget, position + rows), position, rows);
    const std::vector<bool> seen = Seen(keys, position + rows);
    for (std::int64_t key = 0; key < position + rows; ++key) {
      // The block's first row sees farthest back; a tile more may lie before that.
      const bool near = key >= position - budget.distances + 1;
      const bool asked = near || key < budget.columns;
      ASSERT_TRUE(seen[key] || !asked) << key;
      ASSERT_TRUE(!seen[key] || asked || key >= position - budget.distances - kBlockTokens) << key;
    }
  }
}

TEST(SparseLines, OfAnAShapeEndWithTheKeys) {
  const HeadSelection head = AShapeSelection({HeadPattern::kAShape, INT64_MAX, 9}, 6);
  EXPECT_EQ(head.form, HeadSelection::Form::kLines);
  EXPECT_EQ(head.columns, First(6));
  EXPECT_EQ(head.distances, First(6));
  EXPECT_EQ(AShapeSelection({HeadPattern::kAShape, 0, 2}, 6).distances, First(2));
  EXPECT_TRUE(AShapeSelection({HeadPattern::kAShape, 0, 2}, 6).columns.empty());
}

TEST(SparseLines, OfEveryDistanceAreDense) {
  for (const std::int64_t position : {0, 64, 640}) {
    for (const std::int64_t rows : {1, 63, 64}) {
      const BlockKeys keys = KeysOf(LinesOf({0, 5}, First(position + rows)), position, rows);
      EXPECT_EQ(keys.ranges, (Ranges{{0, static_cast<std::uint32_t>(position + rows)}}));
      EXPECT_TRUE(keys.columns.empty());
    }
  }
}

TEST(SparseLines, CostTheTilesOfAFarBlock) {
  Random random;
  for (int round = 0; round < kCases; ++round) {
    const Lines distances = random.Lines(random.Below(100), 1 + random.Below(5000));
    const std::int64_t far =
        (distances.empty() ? 0 : distances.back() / kBlockTokens + 1 + random.Below(5)) *
        kBlockTokens;
    std::int64_t tiles = 0;
    for (const KeyRange& run : RunsOfDistances(distances, far)) {
      tiles += (run.end - run.begin) / kBlockTokens;
    }
    ASSERT_EQ(SlashTiles(distances), tiles) << "round " << round;
  }
}

}  // namespace
}  // namespace longshadow

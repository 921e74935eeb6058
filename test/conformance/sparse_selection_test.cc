#include "longshadow/sparse_selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "test/conformance/sparse_support.h"

namespace longshadow::conformance {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};
using Numbers = std::vector<std::uint32_t>;

HeadBudget VerticalSlash(std::int64_t columns, std::int64_t distances, std::int64_t tiles) {
  return {HeadPattern::kVerticalSlash, columns, distances, tiles};
}

std::unique_ptr<SparseSelection> Select(Backend& backend, const Batch& b,
                                        std::span<const HeadBudget> budgets,
                                        std::size_t sequence = 0) {
  return backend.SelectKeys(b.q.View(), b.shape, b.geometry, 1, b.sequences[sequence], budgets, {});
}

/// [0, first) and the others, ascending.
Numbers FirstAnd(std::int64_t first, std::span<const std::uint32_t> others) {
  Numbers numbers(static_cast<std::size_t>(first));
  std::iota(numbers.begin(), numbers.end(), 0U);
  numbers.insert(numbers.end(), others.begin(), others.end());
  std::ranges::sort(numbers);
  return numbers;
}

void ExpectSame(const KeySelection& got, const KeySelection& want) {
  EXPECT_EQ(got.position, want.position);
  EXPECT_EQ(got.rows, want.rows);
  ASSERT_EQ(got.heads.size(), want.heads.size());
  for (std::size_t h = 0; h < got.heads.size(); ++h) {
    EXPECT_EQ(got.heads[h].form, want.heads[h].form) << "head " << h;
    EXPECT_EQ(got.heads[h].columns, want.heads[h].columns) << "head " << h;
    EXPECT_EQ(got.heads[h].distances, want.heads[h].distances) << "head " << h;
    EXPECT_EQ(got.heads[h].block_offsets, want.heads[h].block_offsets) << "head " << h;
    EXPECT_EQ(got.heads[h].blocks, want.heads[h].blocks) << "head " << h;
  }
}

void ExpectSame(const SparseIndex& got, const SparseIndex& want) {
  EXPECT_EQ(got.position, want.position);
  EXPECT_EQ(got.rows, want.rows);
  EXPECT_EQ(got.blocks, want.blocks);
  EXPECT_EQ(got.range_offsets, want.range_offsets);
  EXPECT_TRUE(got.ranges == want.ranges);
  EXPECT_EQ(got.column_offsets, want.column_offsets);
  EXPECT_EQ(got.columns, want.columns);
}

/// A chunk of which every mass is known: query row i of the last 64 points along dimension 0 and
/// along dimension 1 + i. A key along dimension 0 is a column for all rows; a key along dimension
/// 1 + i lies on a diagonal for row i alone. All other keys score 0. Rows before the last 64 are
/// NaN: nothing may look at them.
class PlantedChunk {
 public:
  static constexpr std::int64_t kPosition = 2048;
  static constexpr std::int64_t kRows = 200;
  static constexpr std::int64_t kFirst = kPosition + kRows - kEstimateRows;

  PlantedChunk(std::mt19937_64& generator, DType dtype)
      : batch(generator, {1, 4, 128}, dtype, {&kChunk, 1}) {
    for (std::int64_t key = 0; key < kPosition + kRows; ++key) {
      for (std::int64_t d = 0; d < 128; ++d) batch.caches[0].SetK(1, 0, key, d, 0);
    }
    for (std::int64_t row = 0; row < kRows; ++row) {
      const std::int64_t i = row - (kRows - kEstimateRows);
      for (std::int64_t column = 0; column < 4 * 128; ++column) {
        const std::int64_t d = column % 128;
        batch.q.Set(row, column, i < 0 ? std::nanf("") : d == 0 || d == 1 + i ? kQuery : 0);
      }
    }
    // Weights from e^12 on, a tenth or more apart: far more than rounding, and less than 64 times
    // apart, so that no column outweighs a diagonal, which has the weight of 64 rows.
    for (std::uint32_t j = 0; j < 20; ++j) {
      columns.push_back(40 + 35 * j + static_cast<std::uint32_t>(generator() % 30));
    }
    for (std::uint32_t j = 0; j < 12; ++j) {
      distances.push_back(200 + 100 * j + static_cast<std::uint32_t>(generator() % 30));
    }
    std::ranges::shuffle(columns, generator);
    std::ranges::shuffle(distances, generator);
    for (std::size_t j = 0; j < columns.size(); ++j) {
      Plant(columns[j], 0, 13.9F - 0.1F * static_cast<float>(j));
    }
    for (std::size_t j = 0; j < distances.size(); ++j) {
      for (std::int64_t i = 0; i < kEstimateRows; ++i) {
        Plant(kFirst + i - distances[j], 1 + i, 13.65F - 0.15F * static_cast<float>(j));
      }
    }
  }

  /// The `count` heaviest planted columns, or diagonals.
  std::span<const std::uint32_t> Columns(std::size_t count) const {
    return std::span(columns).first(count);
  }
  std::span<const std::uint32_t> Distances(std::size_t count) const {
    return std::span(distances).first(count);
  }

  Batch batch;
  Numbers columns;    // heaviest first
  Numbers distances;  // heaviest first

 private:
  static constexpr Sequence kChunk{kPosition, kRows};
  static constexpr float kQuery = 8;

  void Plant(std::int64_t key, std::int64_t d, float score) {
    batch.caches[0].SetK(1, 0, key, d, score / (kQuery * batch.shape.scale));
  }
};

class SparseSelectionTest : public BackendTest {};

TEST_P(SparseSelectionTest, FindsTheHeaviestColumnsAndDiagonals) {
  for (const DType dtype : kDTypes) {
    const PlantedChunk planted(generator_, dtype);
    const HeadBudget budgets[] = {VerticalSlash(30 + 10, 100 + 6, 0),
                                  VerticalSlash(30 + 20, 100, 0), VerticalSlash(30, 100 + 12, 0),
                                  VerticalSlash(31, 101, 0)};
    const auto heads = Select(*backend_, planted.batch, budgets)->ToHost().heads;
    ASSERT_EQ(heads.size(), 4U);
    const std::pair<std::size_t, std::size_t> counts[] = {{10, 6}, {20, 0}, {0, 12}, {1, 1}};
    for (std::size_t h = 0; h < 4; ++h) {
      EXPECT_EQ(heads[h].form, HeadSelection::Form::kLines);
      EXPECT_EQ(heads[h].columns, FirstAnd(30, planted.Columns(counts[h].first))) << "head " << h;
      EXPECT_EQ(heads[h].distances, FirstAnd(100, planted.Distances(counts[h].second)))
          << "head " << h;
    }
  }
}

TEST_P(SparseSelectionTest, FillsTheTilesWithTheHeaviestLines) {
  const std::int64_t forced = SlashTiles(FirstAnd(100, {}));
  for (const DType dtype : kDTypes) {
    const PlantedChunk planted(generator_, dtype);
    // Each diagonal costs a tile, all 50 columns cost less than one, and that one must be left.
    const HeadBudget budgets[] = {
        VerticalSlash(50, 112, forced + 1), VerticalSlash(50, 112, forced + 4),
        VerticalSlash(50, 112, forced + 13), VerticalSlash(50, 104, forced + 13)};
    const auto heads = Select(*backend_, planted.batch, budgets)->ToHost().heads;
    const std::size_t diagonals[] = {0, 3, 12, 4};
    for (std::size_t h = 0; h < 4; ++h) {
      EXPECT_EQ(heads[h].columns, FirstAnd(30, planted.Columns(20))) << "head " << h;
      EXPECT_EQ(heads[h].distances, FirstAnd(100, planted.Distances(diagonals[h]))) << "head " << h;
    }
  }
}

TEST_P(SparseSelectionTest, ChoosesTheLinesOfTheReference) {
  const auto reference = MakeBackend("reference", 1);
  for (const DType dtype : kDTypes) {
    const PlantedChunk planted(generator_, dtype);
    const HeadBudget budgets[] = {VerticalSlash(45, 109, 0),
                                  VerticalSlash(45, 109, 8),
                                  {HeadPattern::kAShape, 7, 200, 0},
                                  {}};
    ExpectSame(Select(*backend_, planted.batch, budgets)->ToHost(),
               Select(*reference, planted.batch, budgets)->ToHost());
  }
}

TEST_P(SparseSelectionTest, ChoosesByTheEstimateOfTheChunksLastRows) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {1, 40, 64, 65, 200}) {
      const Sequence wanted[] = {{0, 3}, {640, rows}};  // the chunk's rows begin at row 3
      const Batch b(generator_, {1, 2, 64}, dtype, wanted);
      const std::int64_t used = std::min(kEstimateRows, rows);
      const SequenceRows last{3 + rows - used, used, 640 + rows - used, b.sequences[1].pages};
      const HeadBudget budget = VerticalSlash(200, 150, 0);
      const HeadBudget budgets[] = {budget, budget};
      const auto heads = Select(*backend_, b, budgets, 1)->ToHost().heads;
      for (const std::int32_t head : {0, 1}) {
        std::vector<float> vertical(static_cast<std::size_t>(640 + rows));
        std::vector<float> slash(vertical.size());
        const LineScores scores{vertical, slash};
        backend_->EstimateLines(b.q.View(), b.shape, b.geometry, 1, last, {&head, 1}, {&scores, 1});
        backend_->Synchronize();
        const HeadSelection want = ChooseLines(vertical, slash, budget);
        EXPECT_EQ(heads[static_cast<std::size_t>(head)].columns, want.columns) << rows << " rows";
        EXPECT_EQ(heads[static_cast<std::size_t>(head)].distances, want.distances);
      }
    }
  }
}

TEST_P(SparseSelectionTest, KeepsForcedLinesAndLimits) {
  const Sequence chunk{1024, 130};
  const Batch b(generator_, {2, 2, 64}, DType::kBF16, {&chunk, 1});
  const Numbers columns = FirstAnd(kForcedColumns, {});
  const Numbers distances = FirstAnd(kForcedDistances, {});
  for (const std::int64_t tiles : {1, 4, 7, 12, 0}) {
    const HeadBudget budgets[] = {VerticalSlash(0, 0, tiles), VerticalSlash(500, 100, tiles),
                                  VerticalSlash(30, 400, tiles), VerticalSlash(300, 300, tiles)};
    const KeySelection keys = Select(*backend_, b, budgets)->ToHost();
    for (std::size_t h = 0; h < 4; ++h) {
      const HeadSelection& head = keys.heads[h];
      EXPECT_TRUE(std::ranges::includes(head.columns, columns)) << "head " << h;
      EXPECT_TRUE(std::ranges::includes(head.distances, distances)) << "head " << h;
      EXPECT_LE(std::ssize(head.columns), std::max(kForcedColumns, budgets[h].columns));
      EXPECT_LE(std::ssize(head.distances), std::max(kForcedDistances, budgets[h].distances));
      const std::int64_t cost =
          SlashTiles(head.distances) * kBlockTokens + std::ssize(head.columns);
      if (tiles == 1) {  // not even the forced ones fit: no others
        EXPECT_EQ(std::ssize(head.columns) + std::ssize(head.distances), 130) << "head " << h;
      } else if (tiles > 0) {
        EXPECT_LE(cost, tiles * kBlockTokens) << "head " << h;
      }
    }
  }
}

TEST_P(SparseSelectionTest, TakesTheWholeOfAShortPrompt) {
  const Sequence chunk{0, 25};
  const Batch b(generator_, {1, 2, 64}, DType::kF32, {&chunk, 1});
  const HeadBudget budgets[] = {VerticalSlash(0, 0, 1), {HeadPattern::kAShape, 30, 100, 0}};
  for (const HeadSelection& head : Select(*backend_, b, budgets)->ToHost().heads) {
    EXPECT_EQ(head.columns, FirstAnd(25, {}));
    EXPECT_EQ(head.distances, FirstAnd(25, {}));
  }
}

TEST_P(SparseSelectionTest, ScoresThatAreNotNumbersMakeTheHeadDense) {
  const Sequence chunk{1024, 70};
  for (const DType dtype : kDTypes) {
    Batch b(generator_, {1, 2, 64}, dtype, {&chunk, 1});
    b.q.Set(69, 0, std::nanf(""));
    const HeadBudget budgets[] = {VerticalSlash(200, 200, 12), VerticalSlash(200, 200, 12)};
    const KeySelection keys = Select(*backend_, b, budgets)->ToHost();
    EXPECT_EQ(keys.heads[0].form, HeadSelection::Form::kDense);
    EXPECT_TRUE(keys.heads[0].columns.empty() && keys.heads[0].distances.empty());
    EXPECT_EQ(keys.heads[1].form, HeadSelection::Form::kLines);
  }
}

TEST_P(SparseSelectionTest, CountsAttendedKeysAndSurvivesTheHost) {
  const Sequence chunk{1024, 200};
  const HeadBudget budgets[] = {
      VerticalSlash(100, 120, 9), {}, {HeadPattern::kAShape, 40, 90, 0}, VerticalSlash(30, 100, 0)};
  for (const DType dtype : kDTypes) {
    const Batch b(generator_, {2, 2, 64}, dtype, {&chunk, 1});
    const auto selection = Select(*backend_, b, budgets);
    const KeySelection keys = selection->ToHost();
    EXPECT_EQ(keys.position, 1024);
    EXPECT_EQ(keys.rows, 200);
    EXPECT_EQ(keys.heads[1].form, HeadSelection::Form::kDense);
    EXPECT_EQ(selection->AttendedKeys(), std::vector<std::int64_t>(4, 0));
    const auto again = backend_->UploadSelection(keys, 4);
    ExpectSame(again->ToHost(), keys);
    std::vector<std::int64_t> attended(4, 0);
    for (const Slice slice : {Slice{0, 128}, {128, 72}, {64, 64}}) {
      const Matrix out = AttendSparse(*backend_, b, *selection, slice);
      const SparseIndex index = selection->IndexToHost();
      ExpectSame(index, BuildIndex(keys, 1024 + slice.begin, slice.rows));
      for (std::int32_t h = 0; h < 4; ++h) {
        attended[static_cast<std::size_t>(h)] += KeysOfHead(index, h);
      }
      EXPECT_EQ(selection->AttendedKeys(), attended);
      const Matrix same = AttendSparse(*backend_, b, *again, slice);
      for (std::int64_t r = slice.begin; r < slice.begin + slice.rows; ++r) {
        EXPECT_TRUE(same.RowBitsEqual(r, out, r)) << "row " << r;
      }
    }
  }
}

TEST_P(SparseSelectionTest, RefusesBudgetsThatNoPatternHas) {
  const Sequence chunk{64, 10};
  const Batch b(generator_, {1, 1, 64}, DType::kF32, {&chunk, 1});
  const auto code = [&](std::vector<HeadBudget> budgets) {
    return CodeOf([&] { (void)Select(*backend_, b, budgets); });
  };
  for (const HeadPattern pattern : {HeadPattern::kDense, HeadPattern::kAShape,
                                    HeadPattern::kVerticalSlash, HeadPattern::kBlockSparse}) {
    const auto number = static_cast<int>(pattern);
    EXPECT_EQ(code({{pattern, -1, 5, 5}}), ErrorCode::kInvalidArgument) << "columns, " << number;
    EXPECT_EQ(code({{pattern, 5, -1, 5}}), ErrorCode::kInvalidArgument) << "distances, " << number;
    EXPECT_EQ(code({{pattern, 5, 5, -1}}), ErrorCode::kInvalidArgument) << "tiles, " << number;
  }
  EXPECT_EQ(code({{HeadPattern::kAShape, 5, 0, 0}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({HeadBudget{}, HeadBudget{}}), ErrorCode::kInvalidArgument);
}

TEST_P(SparseSelectionTest, RefusesAChunkThatBeginsInsideABlock) {
  const Sequence chunk{63, 10};
  const Batch b(generator_, {1, 1, 64}, DType::kF32, {&chunk, 1});
  const HeadBudget budget;
  EXPECT_EQ(CodeOf([&] { (void)Select(*backend_, b, {&budget, 1}); }), ErrorCode::kInvalidArgument);
}

TEST_P(SparseSelectionTest, RefusesSelectionsThatBreakTheRules) {
  const HeadSelection lines{HeadSelection::Form::kLines, {3, 70}, {0, 5}, {}, {}};
  const HeadSelection blocks{HeadSelection::Form::kBlocks, {}, {}, {0, 2, 3}, {0, 2, 3}};
  const KeySelection good{128, 70, {lines, blocks}};
  ASSERT_NE(backend_->UploadSelection(good, 2), nullptr);
  const auto refused = [&](const char* what, const std::function<void(KeySelection&)>& change) {
    KeySelection bad = good;
    change(bad);
    EXPECT_EQ(CodeOf([&] { (void)backend_->UploadSelection(bad, 2); }), ErrorCode::kInvalidArgument)
        << what;
  };
  refused("a head less", [](KeySelection& s) { s.heads.pop_back(); });
  refused("a head more", [&](KeySelection& s) { s.heads.push_back(lines); });
  refused("a start in a block", [](KeySelection& s) { s.position = 130; });
  refused("a start before 0", [](KeySelection& s) { s.position = -64; });
  refused("no rows", [](KeySelection& s) { s.rows = 0; });
  refused("a column past the end", [](KeySelection& s) { s.heads[0].columns = {3, 198}; });
  refused("columns that descend", [](KeySelection& s) { s.heads[0].columns = {70, 3}; });
  refused("a column twice", [](KeySelection& s) { s.heads[0].columns = {3, 3}; });
  refused("no distance 0", [](KeySelection& s) { s.heads[0].distances = {1, 5}; });
  refused("a distance past the start", [](KeySelection& s) { s.heads[0].distances = {0, 198}; });
  refused("too few offsets", [](KeySelection& s) { s.heads[1].block_offsets = {0, 3}; });
  refused("offsets that descend", [](KeySelection& s) { s.heads[1].block_offsets = {0, 4, 3}; });
  refused("blocks without an offset", [](KeySelection& s) { s.heads[1].blocks.push_back(3); });
  refused("no own block", [](KeySelection& s) { s.heads[1].blocks = {0, 1, 3}; });
  refused("a later block", [](KeySelection& s) { s.heads[1].blocks = {2, 3, 3}; });
}

LONGSHADOW_ON_EVERY_BACKEND(SparseSelectionTest);

}  // namespace
}  // namespace longshadow::conformance

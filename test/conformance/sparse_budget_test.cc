#include <algorithm>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_support.h"

/// Tiles are what a query block costs: that no pattern of lines passes them.
namespace longshadow::conformance {
namespace {

/// What the lines that every vertical-slash head has cost: 3 tiles of near keys, one of columns.
constexpr std::int64_t kForcedTiles = 4;

std::vector<std::uint32_t> First(std::int64_t count) {
  std::vector<std::uint32_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0U);
  return numbers;
}

/// The most tiles that a kernel makes of any query block's keys.
std::int64_t MostTiles(const SparseIndex& index, std::int32_t head) {
  std::int64_t most = 0;
  for (std::int64_t block = 0; block < index.blocks; ++block) {
    most = std::max(most, TilesOfEntry(index, head, block));
  }
  return most;
}

class SparseBudgetTest : public BackendTest {
 protected:
  /// A chunk's selection with every head of the same budget, indexed, and its most tiles.
  std::int64_t TilesOf(const Batch& b, const HeadBudget& budget) {
    const SequenceRows& chunk = b.sequences[0];
    const HeadBudget budgets[] = {budget, budget};
    const auto selection =
        backend_->SelectKeys(b.q.View(), b.shape, b.geometry, 1, b.sequences[0], budgets, {});
    keys_ = selection->ToHost();
    backend_->IndexRows(*selection, chunk.position, chunk.rows);
    const SparseIndex index = selection->IndexToHost();
    return std::max(MostTiles(index, 0), MostTiles(index, 1));
  }

  Batch MakeBatch(const Sequence& chunk) {
    return Batch(generator_, {1, 2, 64}, DType::kF32, {&chunk, 1});
  }

  KeySelection keys_;  // of the last TilesOf
};

TEST_P(SparseBudgetTest, TilesOfLinesHoldForEveryQueryBlock) {
  for (const Sequence& chunk : {Sequence{0, 300}, {1088, 65}}) {
    const Batch b = MakeBatch(chunk);
    for (const std::int64_t tiles : {1, 3, 4, 5, 16}) {
      for (const std::int64_t lines : {0, 64, 500}) {
        const HeadBudget budget{HeadPattern::kVerticalSlash, lines, lines, tiles};
        EXPECT_LE(TilesOf(b, budget), std::max(tiles, kForcedTiles))
            << tiles << " tiles, " << lines << " lines, position " << chunk.position;
      }
    }
  }
}

TEST_P(SparseBudgetTest, FewerTilesThanTheForcedLinesCostLeaveExactlyThose) {
  const Batch b = MakeBatch({1024, 130});
  for (const std::int64_t tiles : {1, 2, 3}) {
    TilesOf(b, {HeadPattern::kVerticalSlash, 500, 500, tiles});
    for (const HeadSelection& head : keys_.heads) {
      EXPECT_EQ(head.columns, First(kForcedColumns)) << tiles;
      EXPECT_EQ(head.distances, First(kForcedDistances)) << tiles;
    }
  }
}

TEST_P(SparseBudgetTest, TilesOfAnAShapeHoldForEveryQueryBlock) {
  for (const Sequence& chunk : {Sequence{0, 300}, {4096, 200}, {7040, 65}}) {
    const Batch b = MakeBatch(chunk);
    for (const std::int64_t tiles : {1, 2, 3, 5, 16}) {
      for (const std::int64_t columns : {0, 1, 64, 65, 400, 9000}) {
        for (const std::int64_t distances : {1, 64, 65, 66, 129, 9000}) {
          const HeadBudget budget{HeadPattern::kAShape, columns, distances, tiles};
          EXPECT_LE(TilesOf(b, budget), tiles)
              << tiles << " tiles, " << columns << " columns, " << distances << " distances";
        }
      }
    }
  }
}

TEST(SparseBudget, OfAnAShapeGoesToItsFirstKeysAndThenToTheNearest) {
  const auto shape = [](std::int64_t columns, std::int64_t distances, std::int64_t tiles) {
    const HeadSelection head =
        AShapeSelection({HeadPattern::kAShape, columns, distances, tiles}, 100'000);
    EXPECT_EQ(head.columns, First(std::ssize(head.columns)));
    EXPECT_EQ(head.distances, First(std::ssize(head.distances)));
    return std::pair{std::ssize(head.columns), std::ssize(head.distances)};
  };
  using Counts = std::pair<std::ptrdiff_t, std::ptrdiff_t>;
  EXPECT_EQ(shape(128, 3968, 0), Counts(128, 3968));    // no limit
  EXPECT_EQ(shape(128, 3968, 64), Counts(128, 3905));   // 2 + 62 tiles
  EXPECT_EQ(shape(128, 3968, 65), Counts(128, 3968));   // all fit
  EXPECT_EQ(shape(30, 4000, 5), Counts(30, 193));       // a started tile counts
  EXPECT_EQ(shape(1024, 4096, 8), Counts(448, 1));      // first keys, and the own tile
  EXPECT_EQ(shape(1024, 4096, 1), Counts(0, 1));        // the own tile is always seen
  EXPECT_EQ(shape(10, 20, 1'000'000), Counts(10, 20));  // nothing is added
}

LONGSHADOW_ON_EVERY_BACKEND(SparseBudgetTest);

}  // namespace
}  // namespace longshadow::conformance

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

LONGSHADOW_ON_EVERY_BACKEND(SparseBudgetTest);

}  // namespace
}  // namespace longshadow::conformance

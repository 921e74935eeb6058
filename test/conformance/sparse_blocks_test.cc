// The patterns that choose whole key blocks, kBlockSparse, kFlex and kKeyBounds: that every backend
// sees the blocks that stand out, and that nothing it is given leads it out of range.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_chunk.h"
#include "test/conformance/sparse_support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

class SparseBlocks : public BackendTest {
 protected:
  std::int64_t Below(std::int64_t limit) {
    return static_cast<std::int64_t>(generator_() % static_cast<std::uint64_t>(limit));
  }
};

TEST_P(SparseBlocks, KeepTheRulesAndTheBudget) {
  for (int repeat = 0; repeat < 12; ++repeat) {
    const Chunk chunk(generator_, DrawSizes(generator_));
    const std::int64_t tiles = 1 + Below(8);
    for (const HeadBudget& budget : {BlockSparse(tiles), Flex(tiles), KeyBounds(tiles)}) {
      const auto selection = chunk.Select(*backend_, budget);
      const KeySelection keys = selection->ToHost();
      CheckSelection(keys, chunk.shape.query_heads);
      for (const HeadSelection& head : keys.heads) {
        ASSERT_EQ(head.form, HeadSelection::Form::kBlocks);
        for (std::int64_t i = 0; i < chunk.sizes.query_blocks(); ++i) {
          const Blocks blocks = BlocksOf(head, i);
          ASSERT_LE(std::ssize(blocks), tiles);
          if (tiles > 1) ASSERT_TRUE(blocks.contains(0));
        }
      }
    }
  }
}

/// Scores of key blocks in fp64 from the cache and q, with what the tolerance needs of them.
struct Pooled {
  std::vector<double> scores;
  double magnitude = 0;  // max over blocks of scale * sum of mean|q| mean|k|
};

Pooled ExactScores(const Chunk& chunk, std::int64_t i, std::int32_t head) {
  const Sizes& s = chunk.sizes;
  const auto mean = [](std::int64_t begin, std::int64_t end, const auto& value) {
    double sum = 0;
    for (std::int64_t row = begin; row < end; ++row) sum += value(row);
    return sum / static_cast<double>(end - begin);
  };
  Pooled pooled;
  const std::int64_t first = i * kBlockTokens;
  for (std::int64_t b = 0; b <= s.own_block(i); ++b) {
    const std::int64_t key_end = std::min(s.keys(), (b + 1) * kBlockTokens);
    double score = 0;
    double magnitude = 0;
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      const auto query = [&](std::int64_t row) {
        return chunk.q.At(Chunk::kRowBegin + row, head * s.head_dim + d);
      };
      const auto key = [&](std::int64_t k) { return chunk.cache.K(1, head / s.group, k, d); };
      const auto size = [](const auto& value) {
        return [&value](std::int64_t at) { return std::abs(value(at)); };
      };
      const std::int64_t row_end = std::min(s.rows, first + kBlockTokens);
      score += mean(first, row_end, query) * mean(b * kBlockTokens, key_end, key);
      magnitude += mean(first, row_end, size(query)) * mean(b * kBlockTokens, key_end, size(key));
    }
    const auto scale = static_cast<double>(chunk.shape.scale);
    pooled.scores.push_back(score * scale);
    pooled.magnitude = std::max(pooled.magnitude, magnitude * scale);
  }
  return pooled;
}

/// How far a backend's pooled score may be off: two means of 64 rows and their product, each a sum
/// of magnitudes no larger than pooled.magnitude; the factors of the means are rounded too.
double ScoreTolerance(const Chunk& chunk, const Pooled& pooled) {
  return SumTolerance(2 * kBlockTokens + chunk.sizes.head_dim, pooled.magnitude) +
         8 * kF32Unit * pooled.magnitude;
}

TEST_P(SparseBlocks, OfBlockSparseHeadsAreTheLargestPooledScores) {
  for (int repeat = 0; repeat < 6; ++repeat) {
    const Chunk chunk(generator_, DrawSizes(generator_));
    const std::int64_t tiles = 2 + Below(8);
    const KeySelection keys = chunk.Select(*backend_, BlockSparse(tiles))->ToHost();
    for (std::int32_t head = 0; head < chunk.shape.query_heads; ++head) {
      for (std::int64_t i = 0; i < chunk.sizes.query_blocks(); ++i) {
        const Pooled pooled = ExactScores(chunk, i, head);
        const double tolerance = ScoreTolerance(chunk, pooled);
        const Blocks blocks = BlocksOf(keys.heads[static_cast<std::size_t>(head)], i);
        const auto own = static_cast<std::uint32_t>(chunk.sizes.own_block(i));
        ASSERT_EQ(std::ssize(blocks), std::min<std::int64_t>(tiles, own + 1));
        double least = std::numeric_limits<double>::infinity();
        double most_left_out = -least;
        for (std::uint32_t b = 1; b < own; ++b) {
          if (blocks.contains(b)) {
            least = std::min(least, pooled.scores[b]);
          } else {
            most_left_out = std::max(most_left_out, pooled.scores[b]);
          }
        }
        ASSERT_GE(least, most_left_out - 2 * tolerance) << "head " << head << ", block " << i;
      }
    }
  }
}

TEST_P(SparseBlocks, AreThoseOfTheReferenceWhereScoresAreFarApart) {
  const std::unique_ptr<Backend> reference = MakeBackend("reference", 1);
  for (int repeat = 0; repeat < 6; ++repeat) {
    Sizes sizes = DrawSizes(generator_);
    sizes.rows += kBlockTokens;
    Chunk chunk(generator_, sizes);
    // Along one axis, blocks lie in a random order at distances of a half and more: far more than
    // rounding. Query blocks have lengths of their own, so that no probability appears twice.
    for (std::int32_t head = 0; head < chunk.shape.query_heads; ++head) {
      for (std::int64_t first = 0; first < sizes.rows; first += kBlockTokens) {
        const float length = 0.5F + static_cast<float>(first / kBlockTokens) / 32;
        chunk.SetQueries(first, std::min(kBlockTokens, sizes.rows - first), head, 0,
                         length / chunk.shape.scale);
      }
    }
    for (std::int32_t kv = 0; kv < sizes.kv_heads; ++kv) {
      std::vector<std::int64_t> order(static_cast<std::size_t>(sizes.key_blocks()));
      std::iota(order.begin(), order.end(), 0);
      std::ranges::shuffle(order, generator_);
      for (std::int64_t b = 0; b < sizes.key_blocks(); ++b) {
        chunk.SetBlock(kv, b, 0, static_cast<float>(order[static_cast<std::size_t>(b)]));
      }
    }
    for (const HeadBudget& budget :
         {BlockSparse(5), Flex(0), Flex(6), BlockSparse(100), KeyBounds(5)}) {
      const FlexOptions flex{0.8F, repeat % 2 == 0 ? 0.0F : 0.9F, 2};
      const KeySelection expected = chunk.Select(*reference, budget, flex)->ToHost();
      const KeySelection keys = chunk.Select(*backend_, budget, flex)->ToHost();
      for (std::size_t head = 0; head < keys.heads.size(); ++head) {
        EXPECT_EQ(keys.heads[head].block_offsets, expected.heads[head].block_offsets);
        EXPECT_EQ(keys.heads[head].blocks, expected.heads[head].blocks);
      }
    }
  }
}

TEST_P(SparseBlocks, SeeAPlantedBlock) {
  Sizes sizes;
  sizes.position = 60 * kBlockTokens;
  sizes.rows = 300;
  sizes.kv_heads = 2;
  sizes.group = 2;
  // Vertical-slash; and query-aware, where a share below 1 of all rows' mass may leave out a row.
  for (const FlexOptions& flex : {FlexOptions{0.9F, 0, 2}, FlexOptions{1, 1, 2}}) {
    Chunk chunk(generator_, sizes);
    std::vector<std::uint32_t> planted;
    for (std::int32_t kv = 0; kv < sizes.kv_heads; ++kv) {
      planted.push_back(static_cast<std::uint32_t>(1 + Below(58)));
      chunk.SetBlock(kv, planted.back(), 5, 32);
      for (std::int32_t g = 0; g < sizes.group; ++g) {
        chunk.SetQueries(0, sizes.rows, kv * sizes.group + g, 5, 20);
      }
    }
    for (const HeadBudget& budget : {BlockSparse(4), Flex(8), KeyBounds(4)}) {
      const KeySelection keys = chunk.Select(*backend_, budget, flex)->ToHost();
      for (std::size_t head = 0; head < keys.heads.size(); ++head) {
        for (std::int64_t i = 0; i < sizes.query_blocks(); ++i) {
          EXPECT_TRUE(BlocksOf(keys.heads[head], i).contains(planted[head / 2]))
              << "head " << head << ", query block " << i << ", tau " << flex.tau;
        }
      }
    }
  }
}

void ExpectAllKeys(const SparseIndex& index, const Sizes& sizes) {
  ASSERT_TRUE(index.columns.empty());
  ASSERT_EQ(std::ssize(index.ranges), sizes.query_blocks() * sizes.kv_heads * sizes.group);
  for (std::size_t entry = 0; entry < index.ranges.size(); ++entry) {
    const std::int64_t block = static_cast<std::int64_t>(entry) % sizes.query_blocks();
    const std::int64_t end = std::min(sizes.keys(), sizes.position + (block + 1) * kBlockTokens);
    EXPECT_EQ(index.ranges[entry], (KeyRange{0, static_cast<std::uint32_t>(end)}));
  }
}

TEST_P(SparseBlocks, OfAllBlocksAttendAsDenseDoes) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    Sizes sizes = DrawSizes(generator_);
    sizes.rows += 4;
    const Sequence chunk{sizes.position, sizes.rows};
    const Batch b(generator_, {sizes.kv_heads, sizes.group, sizes.head_dim}, sizes.dtype,
                  {&chunk, 1});
    const Matrix dense = b.Run(*backend_);
    for (const HeadBudget& budget :
         {BlockSparse(sizes.key_blocks()), Flex(0), KeyBounds(sizes.key_blocks())}) {
      const std::vector<HeadBudget> budgets(static_cast<std::size_t>(b.shape.query_heads), budget);
      const auto selection =
          backend_->SelectKeys(b.q.View(), b.shape, b.geometry, 1, b.sequences[0], budgets,
                               {1.0F, 0.1F, sizes.key_blocks()});
      const Matrix sparse = AttendSparse(*backend_, b, *selection, {0, sizes.rows});
      ExpectAllKeys(selection->IndexToHost(), sizes);
      for (const std::int64_t row : {INT64_C(0), Below(sizes.rows), sizes.rows - 1}) {
        for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
          const RowHead at{0, row, head};
          const Exact exact = ExactAttention(b, at);
          EXPECT_EQ(CountWrong(b, at, exact, sparse, row), 0) << row << ", " << head;
          EXPECT_EQ(CountWrong(b, at, exact, dense, row), 0) << row << ", " << head;
        }
      }
    }
  }
}

TEST_P(SparseBlocks, AreCountedAsAttendedWithinTheBudget) {
  Sizes sizes;
  sizes.position = 20 * kBlockTokens;
  sizes.rows = 3 * kBlockTokens;
  const Chunk chunk(generator_, sizes);
  Matrix out(sizes.dtype, chunk.q.rows(), chunk.q.cols());
  for (const HeadBudget& budget : {BlockSparse(6), Flex(6), KeyBounds(6)}) {
    const auto selection = chunk.Select(*backend_, budget);
    backend_->IndexRows(*selection, sizes.position, sizes.rows);
    backend_->SparseAttention(chunk.q.View(), chunk.shape, chunk.geometry, 1, chunk.Rows(),
                              *selection, out.View());
    const std::int64_t attended = selection->AttendedKeys().at(0);
    EXPECT_GT(attended, 0);
    EXPECT_LE(attended, sizes.query_blocks() * 6 * kBlockTokens);
  }
}

TEST_P(SparseBlocks, OfNumbersThatAreNoneMakeTheHeadDense) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (int repeat = 0; repeat < 8; ++repeat) {
    Sizes sizes = DrawSizes(generator_);
    sizes.kv_heads = 2;
    Chunk chunk(generator_, sizes);
    const std::int64_t d = Below(sizes.head_dim);
    if (repeat % 2 == 0) {
      chunk.cache.SetK(1, 1, Below(sizes.position + 1), d, kNaN);
    } else {
      // The last row speaks for the chunk in every estimate.
      for (std::int32_t g = 0; g < sizes.group; ++g) {
        chunk.q.Set(chunk.q.rows() - 1, (sizes.group + g) * sizes.head_dim + d, kNaN);
      }
    }
    for (const HeadBudget& budget : {BlockSparse(3), Flex(3), KeyBounds(3)}) {
      const KeySelection keys = chunk.Select(*backend_, budget)->ToHost();
      CheckSelection(keys, chunk.shape.query_heads);
      for (std::size_t head = 0; head < keys.heads.size(); ++head) {
        const bool spoilt = static_cast<std::int32_t>(head) >= sizes.group;
        EXPECT_EQ(keys.heads[head].form,
                  spoilt ? HeadSelection::Form::kDense : HeadSelection::Form::kBlocks);
      }
    }
  }
}

TEST_P(SparseBlocks, OfEndlessNumbersStayInRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int repeat = 0; repeat < 8; ++repeat) {
    Chunk chunk(generator_, DrawSizes(generator_));
    for (int i = 0; i < 3; ++i) {
      chunk.cache.SetK(1, 0, Below(chunk.sizes.keys()), Below(chunk.sizes.head_dim),
                       i == 0 ? -kInfinity : kInfinity);
    }
    for (const HeadBudget& budget : {BlockSparse(3), Flex(3), KeyBounds(3)}) {
      CheckSelection(chunk.Select(*backend_, budget)->ToHost(), chunk.shape.query_heads);
    }
  }
}

TEST_P(SparseBlocks, DoNotDependOnThreadsOrOtherHeads) {
  const Chunk chunk(generator_, DrawSizes(generator_));
  const std::unique_ptr<Backend> other = Open(3);
  std::vector<HeadBudget> mixed(static_cast<std::size_t>(chunk.shape.query_heads));
  mixed.back() = Flex(0);
  const KeySelection alone = other
                                 ->SelectKeys(chunk.q.View(), chunk.shape, chunk.geometry, 1,
                                              chunk.Rows(), mixed, FlexOptions{})
                                 ->ToHost();
  const KeySelection all = chunk.Select(*backend_, Flex(0))->ToHost();
  EXPECT_EQ(alone.heads.back().blocks, all.heads.back().blocks);
}

TEST_P(SparseBlocks, RefuseParametersOutOfRange) {
  const Chunk chunk(generator_, Sizes{});
  for (const FlexOptions& flex : {FlexOptions{1.5F, 0.1F, 8}, FlexOptions{0.9F, 0.1F, -1}}) {
    try {
      chunk.Select(*backend_, Flex(0), flex);
      FAIL() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(SparseBlocks);

}  // namespace
}  // namespace longshadow::conformance

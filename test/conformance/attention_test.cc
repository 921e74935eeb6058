#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "test/conformance/attention_batch.h"

namespace longshadow::conformance {
namespace {

/// Checks about `samples` rows of each sequence, its first and last among them.
void CheckAgainstExact(const Batch& b, const Matrix& out, std::int64_t samples) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < b.sequences.size(); ++i) {
    const SequenceRows& s = b.sequences[i];
    const std::int64_t step =
        std::max<std::int64_t>(1, (s.rows - 1) / std::max<std::int64_t>(1, samples - 1));
    for (std::int64_t row = s.rows - 1; row >= 0; row = row > 0 && row < step ? 0 : row - step) {
      for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
        const RowHead at{i, row, head};
        wrong += CountWrong(b, at, ExactAttention(b, at), out, s.row_begin + row);
      }
    }
  }
  EXPECT_EQ(wrong, 0) << "head_dim " << b.shape.head_dim << ", kv heads " << b.shape.kv_heads
                      << ", group " << b.shape.query_heads / b.shape.kv_heads << ", dtype "
                      << static_cast<int>(b.q.dtype()) << ", first sequence at "
                      << b.sequences[0].position << " with " << b.sequences[0].rows << " rows";
}

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};

class AttentionTest : public BackendTest {
 protected:
  void Check(const Heads& heads, std::initializer_list<Sequence> wanted, std::int64_t samples = 4,
             std::int64_t distinct_pages = 0) {
    for (const DType dtype : kDTypes) {
      const Batch batch(generator_, heads, dtype, std::span(wanted.begin(), wanted.size()),
                        distinct_pages);
      CheckAgainstExact(batch, batch.Run(*backend_), samples);
    }
  }
};

TEST_P(AttentionTest, AttendsWithEveryHeadDimensionAndGroup) {
  for (const std::int32_t dim : {8, 40, 64, 80, 96, 128, 256}) {
    for (const std::int32_t group : {1, 2, 4, 7}) {
      Check({1, group, dim}, {{0, 70}, {130, 3}}, 3);
    }
  }
}

TEST_P(AttentionTest, AttendsAcrossPageEnds) {
  for (const std::int64_t keys : {512, 513, 1023, 1024, 1025, 2047}) {
    Check({2, 2, 64}, {{keys - 1, 1}, {keys - 5, 5}}, 2);
    Check({1, 1, 96}, {{keys - 4, 4}, {keys - 64, 64}}, 3);
  }
}

TEST_P(AttentionTest, AttendsWithRaggedRows) {
  for (const std::int64_t rows : {1, 3, 5, 16, 17, 63, 64, 65}) Check({1, 2, 64}, {{37, rows}});
  for (const std::int64_t rows : {511, 513, 700}) Check({1, 1, 128}, {{0, rows}}, 6);
}

TEST_P(AttentionTest, AttendsForSeveralSequencesInOneCall) {
  Check({2, 4, 64}, {{600, 1}, {0, 1}, {511, 130}, {0, 66}, {1030, 2}, {4095, 4}}, 3);
}

TEST_P(AttentionTest, MergesPiecesOfLongContexts) {
  Check({1, 2, 64}, {{4095, 1}, {4096, 1}, {9000, 3}}, 2);
  Check({1, 1, 128}, {{8191, 4}}, 2);
}

/// Makes the key at `position` stand out for the query `q` [head_dim]: its score becomes about 40,
/// some 25 above the logarithm of a million, and its value is `v`.
void PlantKey(Batch& b, std::int64_t position, std::span<const float> q, float v) {
  const float size = std::inner_product(q.begin(), q.end(), q.begin(), 0.0F);
  for (std::size_t d = 0; d < q.size(); ++d) {
    const auto at = static_cast<std::int64_t>(d);
    b.caches[0].SetK(1, 0, position, at, 40.0F / (b.shape.scale * size) * q[d]);
    b.caches[0].SetV(1, 0, position, at, v + static_cast<float>(d) / 8);
  }
}

/// A sequence whose last row is at position 1,048,575. The page table repeats one page but for two:
/// one in the middle and the last, with a key in each that shares nearly all of the weight.
Batch AMillionKeys(std::mt19937_64& generator, DType dtype, std::int64_t rows) {
  constexpr std::int64_t kMiddle = 611'111;
  const Sequence wanted[] = {{1'048'576 - rows, rows}};
  Batch b(generator, {1, 1, 8}, dtype, wanted, 1);
  b.caches[0].MakeUnique(kMiddle / kPageTokens);
  b.caches[0].MakeUnique(wanted[0].position / kPageTokens);
  b.caches[0].FillRandom(generator, 1'048'576);
  const float q[8] = {0.5F, -1, 0.25F, 1, -0.75F, 0.5F, 1, -0.25F};
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < 8; ++d)
      b.q.Set(r, d, q[d] * (1 - 0.0625F * static_cast<float>(r)));
  }
  PlantKey(b, kMiddle, q, 6);
  PlantKey(b, wanted[0].position, q, -5);
  return b;
}

TEST_P(AttentionTest, ReachesTheLastPositionOfAMillion) {
  if (!IsCpu()) GTEST_SKIP() << "reference: plain loops over a million keys take too long";
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {1, 5}) {
      const Batch b = AMillionKeys(generator_, dtype, rows);
      const Matrix out = b.Run(*backend_);
      CheckAgainstExact(b, out, 2);
      // Half of 6 and half of -5: either key alone, or none, would be far away.
      EXPECT_NEAR(out.At(0, 0), 0.5, 0.1);
      const Exact exact = ExactAttention(b, {0, 0, 0});
      EXPECT_LT(exact.value_chain[0] + exact.weight_chain, 4096) << "the tolerance means nothing";
    }
  }
}

TEST_P(AttentionTest, AScoreThatIsNotANumberReachesEveryRowThatSeesItAndNoOther) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64}) {
      for (const std::int64_t rows : {3, 40, 130}) {
        const Sequence wanted[] = {{90, rows}};
        Batch batch(generator_, {1, 2, dim}, dtype, wanted);
        const Matrix before = batch.Run(*backend_);
        const std::int64_t bad = rows / 2;  // row, and the row whose key is bad
        batch.caches[0].SetK(1, 0, 90 + bad, dim - 1, std::nanf(""));
        const Matrix after = batch.Run(*backend_);
        for (std::int64_t r = 0; r < rows; ++r) {
          bool all_nan = true;
          for (std::int64_t c = 0; c < after.cols(); ++c) all_nan &= std::isnan(after.At(r, c));
          EXPECT_EQ(all_nan, r >= bad) << "row " << r << " of " << rows;
          EXPECT_EQ(after.RowBitsEqual(r, before, r), r < bad) << "row " << r << " of " << rows;
        }
      }
    }
  }
}

TEST_P(AttentionTest, AQueryThatIsNotANumberSpoilsItsHeadAlone) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {3, 40}) {
      const Sequence wanted[] = {{700, rows}};
      Batch batch(generator_, {1, 2, 64}, dtype, wanted);
      const Matrix before = batch.Run(*backend_);
      batch.q.Set(1, 5, std::nanf(""));
      const Matrix after = batch.Run(*backend_);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < after.cols(); ++c) {
          EXPECT_EQ(std::isnan(after.At(r, c)), r == 1 && c < 64) << r << ", " << c;
        }
        EXPECT_EQ(after.RowBitsEqual(r, before, r), r != 1);
      }
    }
  }
}

TEST_P(AttentionTest, IgnoresKeysAfterTheRow) {
  // Later rows of the same call hold huge keys and values: none may reach an earlier row.
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {3, 40}) {
      const Sequence wanted[] = {{90, rows}};
      Batch batch(generator_, {1, 2, 64}, dtype, wanted);
      const Matrix before = batch.Run(*backend_);
      Matrix later = Matrix::Random(generator_, DType::kF32, 1, 64 * 4, 1000.0F);
      const RopeTable none{};
      Matrix q(dtype, 1, 128);
      const SequenceRows last[] = {{0, 1, 90 + rows - 1, batch.caches[0].pages()}};
      backend_->RopeAndStore(later.View(), batch.shape, none, batch.geometry, 1, last, q.View());
      const Matrix after = batch.Run(*backend_);
      for (std::int64_t r = 0; r + 1 < rows; ++r) {
        EXPECT_TRUE(after.RowBitsEqual(r, before, r)) << "row " << r << " of " << rows;
      }
      EXPECT_FALSE(after.RowBitsEqual(rows - 1, before, rows - 1));
    }
  }
}

TEST_P(AttentionTest, TheBitsOfASequenceDoNotDependOnItsBatch) {
  for (const DType dtype : kDTypes) {
    const Sequence wanted[] = {{700, 1}, {5000, 2}, {100, 130}, {0, 9}};
    const Batch batch(generator_, {2, 4, 64}, dtype, wanted);
    const Matrix together = batch.Run(*backend_);
    for (const SequenceRows& s : batch.sequences) {
      Matrix alone(dtype, s.rows, batch.q.cols());
      const SequenceRows own[] = {{0, s.rows, s.position, s.pages}};
      backend_->Attention(batch.q.Rows(s.row_begin, s.rows), batch.shape, batch.geometry, 1, own,
                          alone.View());
      for (std::int64_t r = 0; r < s.rows; ++r) {
        EXPECT_TRUE(alone.RowBitsEqual(r, together, s.row_begin + r)) << "row " << r;
      }
    }
  }
}

TEST_P(AttentionTest, TheBitsOfAPrefillRowDoNotDependOnItsChunk) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64, 128}) {
      const Sequence wanted[] = {{500, 301}};
      const Batch batch(generator_, {1, 2, dim}, dtype, wanted);
      const Matrix whole = batch.Run(*backend_);
      Matrix parts(dtype, 301, batch.q.cols());
      const KvPages pages = batch.caches[0].pages();
      for (const auto& [begin, rows] : {std::pair{0, 100}, {100, 17}, {117, 184}}) {
        const SequenceRows own[] = {{0, rows, 500 + begin, pages}};
        backend_->Attention(batch.q.Rows(begin, rows), batch.shape, batch.geometry, 1, own,
                            parts.Rows(begin, rows));
      }
      for (std::int64_t r = 0; r < 301; ++r) EXPECT_TRUE(parts.RowBitsEqual(r, whole, r)) << r;
    }
  }
}

TEST_P(AttentionTest, TheBitsDoNotDependOnThreads) {
  const auto single = Open(1);
  const auto many = Open(3);
  for (const DType dtype : kDTypes) {
    const Sequence wanted[] = {{9000, 1}, {4100, 3}, {300, 70}};
    const Batch batch(generator_, {2, 2, 64}, dtype, wanted);
    const Matrix one = batch.Run(*single);
    const Matrix two = batch.Run(*backend_);
    const Matrix three = batch.Run(*many);
    for (std::int64_t r = 0; r < one.rows(); ++r) {
      EXPECT_TRUE(one.RowBitsEqual(r, two, r) && one.RowBitsEqual(r, three, r)) << "row " << r;
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(AttentionTest);

}  // namespace
}  // namespace longshadow::conformance

#include <algorithm>
#include <cmath>
#include <span>

#include "test/conformance/support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

struct Heads {
  std::int32_t kv = 1;
  std::int32_t group = 1;
  std::int32_t dim = 64;
};

struct Sequence {
  std::int64_t position = 0;
  std::int64_t rows = 1;
};

/// Sequences with their caches, and queries for all of them.
struct Batch {
  Batch(std::mt19937_64& generator, const Heads& heads, DType dtype,
        std::span<const Sequence> wanted, std::int64_t distinct_pages = 0)
      : shape{heads.kv * heads.group, heads.kv, heads.dim,
              1.0F / std::sqrt(static_cast<float>(heads.dim))},
        geometry{2, heads.kv, heads.dim, dtype},
        q(dtype, 0, 1) {
    std::int64_t rows = 0;
    for (const Sequence& s : wanted) {
      const std::int64_t tokens = s.position + s.rows;
      caches.emplace_back(geometry, tokens, distinct_pages);
      caches.back().FillRandom(generator, tokens);
      sequences.push_back({rows, s.rows, s.position, caches.back().pages()});
      rows += s.rows;
    }
    q = Matrix::Random(generator, dtype, rows, shape.query_heads * heads.dim);
  }

  Matrix Run(Backend& backend) const {
    Matrix out(q.dtype(), q.rows(), q.cols());
    backend.Attention(q.View(), shape, geometry, 1, sequences, out.View());
    backend.Synchronize();
    return out;
  }

  AttentionShape shape;
  KvGeometry geometry;
  std::vector<PagedKv> caches;
  std::vector<SequenceRows> sequences;
  Matrix q;
};

/// One (row, head) in fp64: output and the magnitudes that its tolerance needs.
struct Exact {
  std::vector<double> output, magnitude;
  double score_magnitude = 0;
};

Exact ExactAttention(const Batch& b, std::size_t sequence, std::int64_t row, std::int32_t head) {
  const std::int64_t dim = b.shape.head_dim;
  const PagedKv& cache = b.caches[sequence];
  const SequenceRows& s = b.sequences[sequence];
  const std::int32_t kv_head = head / (b.shape.query_heads / b.shape.kv_heads);
  const std::int64_t keys = s.position + row + 1;
  const double scale = static_cast<double>(b.shape.scale);
  std::vector<double> query(static_cast<std::size_t>(dim));
  for (std::int64_t d = 0; d < dim; ++d) {
    query[static_cast<std::size_t>(d)] = b.q.At(s.row_begin + row, head * dim + d);
  }
  std::vector<double> scores(static_cast<std::size_t>(keys));
  Exact exact;
  for (std::int64_t j = 0; j < keys; ++j) {
    double dot = 0;
    double size = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      const double product = query[static_cast<std::size_t>(d)] * cache.K(1, kv_head, j, d);
      dot += product;
      size += std::abs(product);
    }
    scores[static_cast<std::size_t>(j)] = dot * scale;
    exact.score_magnitude = std::max(exact.score_magnitude, size * scale);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  exact.output.assign(static_cast<std::size_t>(dim), 0);
  exact.magnitude.assign(static_cast<std::size_t>(dim), 0);
  double sum = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    const double p = std::exp(scores[static_cast<std::size_t>(j)] - top);
    sum += p;
    for (std::int64_t d = 0; d < dim; ++d) {
      const double v = cache.V(1, kv_head, j, d);
      exact.output[static_cast<std::size_t>(d)] += p * v;
      exact.magnitude[static_cast<std::size_t>(d)] += p * std::abs(v);
    }
  }
  for (std::size_t d = 0; d < exact.output.size(); ++d) {
    exact.output[d] /= sum;
    exact.magnitude[d] /= sum;
  }
  return exact;
}

/// Checks about `samples` rows of each sequence, its first and last among them.
void CheckAgainstExact(const Batch& b, const Matrix& out, std::int64_t samples) {
  std::int64_t wrong = 0;
  const std::int64_t dim = b.shape.head_dim;
  for (std::size_t i = 0; i < b.sequences.size(); ++i) {
    const SequenceRows& s = b.sequences[i];
    const std::int64_t step =
        std::max<std::int64_t>(1, (s.rows - 1) / std::max<std::int64_t>(1, samples - 1));
    for (std::int64_t row = s.rows - 1; row >= 0; row = row > 0 && row < step ? 0 : row - step) {
      for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
        const Exact exact = ExactAttention(b, i, row, head);
        for (std::int64_t d = 0; d < dim; ++d) {
          const auto at = static_cast<std::size_t>(d);
          const double tolerance =
              AttentionTolerance({s.position + row + 1, dim, exact.score_magnitude,
                                  exact.magnitude[at], std::abs(exact.output[at])},
                                 b.q.dtype());
          const double got = out.At(s.row_begin + row, head * dim + d);
          if (!(std::abs(got - exact.output[at]) <= tolerance)) ++wrong;
        }
      }
    }
  }
  EXPECT_EQ(wrong, 0) << "head_dim " << dim << ", kv heads " << b.shape.kv_heads << ", group "
                      << b.shape.query_heads / b.shape.kv_heads << ", dtype "
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

TEST_P(AttentionTest, ReachesTheLastPositionOfAMillion) {
  // The page table repeats three pages: a million keys without their memory.
  if (!IsCpu()) GTEST_SKIP() << "reference: plain loops over a million keys take too long";
  Check({1, 1, 8}, {{1048575, 1}}, 1, 3);
  Check({1, 1, 8}, {{1048571, 5}}, 1, 3);
}

TEST_P(AttentionTest, IgnoresKeysAfterTheRow) {
  // Later rows of the same call hold huge keys and NaN values: none may reach an earlier row.
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

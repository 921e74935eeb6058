#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
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

/// One (row, head) in fp64: output and what its tolerance needs.
struct Exact {
  std::vector<double> output;  // [head_dim], as are the next two
  std::vector<double> magnitude;
  std::vector<double> value_chain;
  double weight_chain = 0;
  double score_magnitude = 0;
};

/// Tiles of 128 keys that raise the largest score so far: each rescales the sums.
std::int64_t Rescalings(const std::vector<double>& scores) {
  constexpr std::size_t kTile = 128;
  std::int64_t count = 0;
  double top = -std::numeric_limits<double>::infinity();
  for (std::size_t tile = 0; tile < scores.size(); tile += kTile) {
    const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(tile);
    const double own = *std::max_element(
        begin, begin + static_cast<std::ptrdiff_t>(std::min(kTile, scores.size() - tile)));
    if (own > top) ++count;
    top = std::max(top, own);
  }
  return count;
}

/// Softmax of the scores over V, and the chains of its sums.
void AddExactValues(const Batch& b, std::size_t sequence, std::int32_t kv_head,
                    const std::vector<double>& scores, Exact& exact) {
  constexpr std::size_t kPieceKeys = 4096;  // the shortest that any kernel merges
  const PagedKv& cache = b.caches[sequence];
  const auto dim = static_cast<std::size_t>(b.shape.head_dim);
  const double top = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights;
  for (const double score : scores) weights.push_back(std::exp(score - top));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const std::int64_t rescalings = Rescalings(scores);
  const auto pieces = static_cast<std::int64_t>((scores.size() + kPieceKeys - 1) / kPieceKeys);
  exact.output.assign(dim, 0);
  exact.magnitude.assign(dim, 0);
  const auto term = [&](std::size_t j, std::size_t d) {
    return weights[j] / sum *
           cache.V(1, kv_head, static_cast<std::int64_t>(j), static_cast<std::int64_t>(d));
  };
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t j = 0; j < scores.size(); ++j) {
      exact.output[d] += term(j, d);
      exact.magnitude[d] += std::abs(term(j, d));
    }
    SumChain chain(exact.magnitude[d]);
    for (std::size_t j = 0; j < scores.size(); ++j) chain.AddTerm(std::abs(term(j, d)));
    exact.value_chain.push_back(chain.Roundings(rescalings, pieces));
  }
  SumChain chain(1.0);
  for (const double weight : weights) chain.AddTerm(weight / sum);
  exact.weight_chain = chain.Roundings(rescalings, pieces);
}

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
  AddExactValues(b, sequence, kv_head, scores, exact);
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
          const double tolerance = AttentionTolerance(
              {dim, exact.score_magnitude, exact.magnitude[at], std::abs(exact.output[at]),
               exact.value_chain[at], exact.weight_chain},
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
      const Exact exact = ExactAttention(b, 0, 0, 0);
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

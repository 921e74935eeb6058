#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "test/conformance/attention_batch.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};

/// Scores of one query head as a backend wrote them.
struct Lines {
  std::vector<float> vertical;
  std::vector<float> slash;
};

std::vector<Lines> Estimate(Backend& backend, const Batch& b, std::span<const std::int32_t> heads,
                            std::size_t sequence = 0) {
  const SequenceRows& rows = b.sequences[sequence];
  const auto keys = static_cast<std::size_t>(rows.position + rows.rows);
  // A score that nobody writes stays far away.
  std::vector<Lines> lines(heads.size(),
                           {std::vector<float>(keys, -9.0F), std::vector<float>(keys, -9.0F)});
  std::vector<LineScores> scores;
  for (Lines& l : lines) scores.push_back({l.vertical, l.slash});
  backend.EstimateLines(b.q.View(), b.shape, b.geometry, 1, rows, heads, scores);
  backend.Synchronize();
  return lines;
}

/// Masses in fp64 with the bound on each, [keys]; and the bound on their sum.
struct ExactLines {
  std::vector<double> vertical, slash, vertical_bound, slash_bound;
  double sum_bound = 0;
};

/// K of one kv head, widened; a page that the table repeats, once.
class WideKeys {
 public:
  WideKeys(const Batch& b, std::size_t sequence, std::int32_t kv_head) : dim_(b.shape.head_dim) {
    const SequenceRows& s = b.sequences[sequence];
    std::map<const std::byte*, std::size_t> places;
    for (std::int64_t key = 0; key < s.position + s.rows; ++key) {
      const auto page = static_cast<std::size_t>(key / kPageTokens);
      const std::int64_t row = key % kPageTokens;
      if (row == 0)
        pages_.push_back(places.try_emplace(s.pages.k[page], planes_.size()).first->second);
      if (pages_[page] == planes_.size()) planes_.emplace_back();
      std::vector<double>& plane = planes_[pages_[page]];
      if (std::ssize(plane) > row * dim_) continue;
      for (std::int64_t d = 0; d < dim_; ++d) {
        plane.push_back(b.caches[sequence].K(1, kv_head, key, d));
      }
    }
  }
  const double* At(std::int64_t key) const {
    return planes_[pages_[static_cast<std::size_t>(key / kPageTokens)]].data() +
           key % kPageTokens * dim_;
  }

 private:
  std::int64_t dim_;
  std::vector<std::size_t> pages_;
  std::vector<std::vector<double>> planes_;
};

/// Scores of the keys that a row sees; raises magnitude to the largest scale * sum |q_d k_d|.
std::vector<double> RowScores(const Batch& b, const RowHead& at, const WideKeys& keys,
                              double& magnitude) {
  const SequenceRows& s = b.sequences[at.sequence];
  const auto dim = static_cast<std::size_t>(b.shape.head_dim);
  const double scale = static_cast<double>(b.shape.scale);
  std::vector<double> query;
  for (std::size_t d = 0; d < dim; ++d) {
    query.push_back(
        b.q.At(s.row_begin + at.row, at.head * b.shape.head_dim + static_cast<std::int64_t>(d)));
  }
  std::vector<double> scores;
  for (std::int64_t key = 0; key <= s.position + at.row; ++key) {
    const double* k = keys.At(key);
    double dot = 0;
    double size = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      dot += query[d] * k[d];
      size += std::abs(query[d] * k[d]);
    }
    scores.push_back(dot * scale);
    magnitude = std::max(magnitude, size * scale);
  }
  return scores;
}

/// Relative error of every probability of a row. As in AttentionTolerance, a scaled score is off by
/// ds; exp(score - lse) adds the rounding of lse and of the difference, both at most
/// |score| + ln keys; the sum below adds what its chain rounds, with a rescaling for every 16 keys.
double ProbabilityError(const Batch& b, std::span<const double> weights, double magnitude) {
  const auto keys = static_cast<std::int64_t>(weights.size());
  SumChain chain(1.0);
  for (const double weight : weights) chain.AddTerm(weight);
  const double score = SumTolerance(b.shape.head_dim, magnitude) +
                       4 * kF32Unit * (magnitude + std::log(static_cast<double>(keys)));
  const double exponential = b.q.dtype() == DType::kBF16 ? kExpBf16 : kExpF32;
  return 2 * (score + exponential) + chain.Roundings(keys / 16 + 1, keys / 4096 + 1) * kF32Unit;
}

ExactLines ExactLinesOf(const Batch& b, std::size_t sequence, std::int32_t head) {
  const SequenceRows& s = b.sequences[sequence];
  const auto keys = static_cast<std::size_t>(s.position + s.rows);
  // Below the smallest normal float a probability may be 0.
  const double floor = 0x1p-126 * static_cast<double>(s.rows);
  ExactLines exact{std::vector<double>(keys), std::vector<double>(keys),
                   std::vector<double>(keys, floor), std::vector<double>(keys, floor)};
  const WideKeys k(b, sequence, b.KvHead(head));
  for (std::int64_t row = 0; row < s.rows; ++row) {
    double magnitude = 0;
    std::vector<double> weights = RowScores(b, {sequence, row, head}, k, magnitude);
    const double top = *std::max_element(weights.begin(), weights.end());
    for (double& weight : weights) weight = std::exp(weight - top);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= sum;
    // A line adds up to `rows` probabilities, each rounded once more as it is added.
    const double error =
        ProbabilityError(b, weights, magnitude) + (static_cast<double>(s.rows) + 4) * kF32Unit;
    const auto own = static_cast<std::size_t>(s.position + row);
    for (std::size_t key = 0; key <= own; ++key) {
      exact.vertical[key] += weights[key];
      exact.slash[own - key] += weights[key];
      exact.vertical_bound[key] += error * weights[key];
      exact.slash_bound[own - key] += error * weights[key];
    }
    exact.sum_bound += error + floor * static_cast<double>(keys);
  }
  return exact;
}

std::int64_t CountFar(std::span<const float> got, std::span<const double> want,
                      std::span<const double> bound) {
  std::int64_t far = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(static_cast<double>(got[i]) - want[i]) <= bound[i])) ++far;
  }
  return far;
}

double Total(std::span<const float> scores) {
  return std::accumulate(scores.begin(), scores.end(), 0.0);
}

void CheckLines(const Batch& b, std::size_t sequence, std::int32_t head, const Lines& got) {
  const SequenceRows& s = b.sequences[sequence];
  SCOPED_TRACE(testing::Message() << "head " << head << " of " << b.shape.query_heads
                                  << ", head_dim " << b.shape.head_dim << ", dtype "
                                  << static_cast<int>(b.q.dtype()) << ", position " << s.position
                                  << ", rows " << s.rows);
  const ExactLines exact = ExactLinesOf(b, sequence, head);
  EXPECT_EQ(CountFar(got.vertical, exact.vertical, exact.vertical_bound), 0) << "columns";
  EXPECT_EQ(CountFar(got.slash, exact.slash, exact.slash_bound), 0) << "distances";
  EXPECT_NEAR(Total(got.vertical), static_cast<double>(s.rows), exact.sum_bound);
  EXPECT_NEAR(Total(got.slash), static_cast<double>(s.rows), exact.sum_bound);
}

class SparseEstimateTest : public BackendTest {
 protected:
  /// All heads of one sequence in one call.
  void Check(const Heads& heads, const Sequence& rows, std::int64_t distinct_pages = 0) {
    for (const DType dtype : kDTypes) {
      const Batch b(generator_, heads, dtype, {&rows, 1}, distinct_pages);
      std::vector<std::int32_t> all(static_cast<std::size_t>(b.shape.query_heads));
      std::iota(all.begin(), all.end(), 0);
      const auto lines = Estimate(*backend_, b, all);
      for (const std::int32_t head : all) {
        CheckLines(b, 0, head, lines[static_cast<std::size_t>(head)]);
      }
    }
  }
};

TEST_P(SparseEstimateTest, SumsWithEveryHeadDimensionAndGroup) {
  for (const std::int32_t dim : {8, 40, 64, 96, 104, 128, 256}) Check({1, 2, dim}, {161, 64});
  for (const std::int32_t group : {1, 4, 7}) Check({1, group, 64}, {130, 33});
  Check({4, 1, 64}, {130, 64});
  Check({2, 3, 128}, {130, 64});
}

TEST_P(SparseEstimateTest, SumsWithEveryNumberOfRows) {
  for (const std::int64_t rows : {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64}) {
    Check({1, 2, 64}, {100, rows});
  }
}

TEST_P(SparseEstimateTest, SumsFromTheSequencesFirstRow) {
  for (const std::int64_t rows : {1, 5, 33, 64}) Check({1, 2, 64}, {0, rows});
}

TEST_P(SparseEstimateTest, SumsAcrossPagesAtRaggedPositions) {
  for (const std::int64_t position : {447, 449, 511, 512, 960, 1537}) {
    Check({1, 1, 64}, {position, 64});
    Check({1, 1, 96}, {position, 9});
  }
}

TEST_P(SparseEstimateTest, SumsAcrossThePlacesWhereKeysAreSharedOut) {
  // The cpu backend cuts the keys every 8,192: rows that begin before a cut, on it and after it,
  // diagonals that cross it, and a last span of a few keys.
  for (const Sequence& rows : {Sequence{8200, 64}, {8160, 64}, {16'383, 64}, {8191, 33}}) {
    Check({1, 1, 64}, rows);
  }
}

TEST_P(SparseEstimateTest, SumsFarFromTheStart) {
  Check({1, 2, 64}, {70'001, 4}, 3);
  Check({1, 1, 40}, {131'072, 2}, 2);
}

TEST_P(SparseEstimateTest, SumsBeyondAMillionKeys) { Check({1, 1, 64}, {1'048'577, 1}, 1); }

TEST_P(SparseEstimateTest, TakesAnyHeadsInAnyOrder) {
  const Sequence rows{300, 40};
  for (const DType dtype : kDTypes) {
    const Batch b(generator_, {2, 3, 64}, dtype, {&rows, 1});
    const std::int32_t heads[] = {5, 0, 4};
    const auto lines = Estimate(*backend_, b, heads);
    for (std::size_t i = 0; i < 3; ++i) {
      CheckLines(b, 0, heads[i], lines[i]);
      const auto alone = Estimate(*backend_, b, {&heads[i], 1});
      EXPECT_EQ(alone[0].vertical, lines[i].vertical) << "the bits depend on the other heads";
      EXPECT_EQ(alone[0].slash, lines[i].slash) << "the bits depend on the other heads";
    }
    EXPECT_TRUE(Estimate(*backend_, b, {}).empty());
  }
}

TEST_P(SparseEstimateTest, TakesRowsFromTheMiddleOfABatch) {
  const Sequence wanted[] = {{10, 3}, {700, 37}, {0, 2}};
  for (const DType dtype : kDTypes) {
    const Batch b(generator_, {1, 2, 64}, dtype, wanted);
    const std::int32_t heads[] = {1, 0};
    const auto lines = Estimate(*backend_, b, heads, 1);
    CheckLines(b, 1, 1, lines[0]);
    CheckLines(b, 1, 0, lines[1]);
  }
}

TEST_P(SparseEstimateTest, TheBitsDoNotDependOnThreads) {
  const auto single = Open(1);
  const auto many = Open(3);
  const Sequence rows = IsCpu() ? Sequence{9000, 50} : Sequence{300, 9};
  const std::int32_t heads[] = {0, 1, 2, 3};
  for (const DType dtype : kDTypes) {
    const Batch b(generator_, {2, 2, 64}, dtype, {&rows, 1}, 4);
    const auto one = Estimate(*single, b, heads);
    const auto two = Estimate(*backend_, b, heads);
    const auto three = Estimate(*many, b, heads);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(one[i].vertical == two[i].vertical && one[i].vertical == three[i].vertical);
      EXPECT_TRUE(one[i].slash == two[i].slash && one[i].slash == three[i].slash);
    }
  }
}

bool AllNan(const Lines& lines) {
  const auto is_nan = [](float score) { return std::isnan(score); };
  return std::ranges::all_of(lines.vertical, is_nan) && std::ranges::all_of(lines.slash, is_nan);
}

TEST_P(SparseEstimateTest, AKeyThatIsNotANumberMakesEveryScoreOfItsHeadsNaN) {
  const Sequence rows{600, 40};
  const std::int32_t heads[] = {0, 1, 2, 3};
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64}) {
      Batch b(generator_, {2, 2, dim}, dtype, {&rows, 1});
      const auto before = Estimate(*backend_, b, heads);
      // The first key, one in the middle, and the last, which only the last row sees.
      for (const std::int64_t key : {0, 300, 639}) {
        const auto k = static_cast<float>(b.caches[0].K(1, 1, key, dim - 1));
        b.caches[0].SetK(1, 1, key, dim - 1, std::nanf(""));
        const auto after = Estimate(*backend_, b, heads);
        b.caches[0].SetK(1, 1, key, dim - 1, k);
        EXPECT_TRUE(AllNan(after[2]) && AllNan(after[3])) << "key " << key << ", dim " << dim;
        for (const std::size_t other : {0U, 1U}) {
          EXPECT_EQ(after[other].vertical, before[other].vertical) << "key " << key;
          EXPECT_EQ(after[other].slash, before[other].slash) << "key " << key;
        }
      }
    }
  }
}

TEST_P(SparseEstimateTest, AQueryThatIsNotANumberMakesEveryScoreOfItsHeadNaN) {
  const Sequence rows{600, 40};
  const std::int32_t heads[] = {0, 1};
  for (const DType dtype : kDTypes) {
    for (const std::int64_t row : {0, 17, 39}) {
      Batch b(generator_, {1, 2, 64}, dtype, {&rows, 1});
      const auto before = Estimate(*backend_, b, heads);
      b.q.Set(row, 64 + 3, std::nanf(""));
      const auto after = Estimate(*backend_, b, heads);
      EXPECT_TRUE(AllNan(after[1])) << "row " << row;
      EXPECT_EQ(after[0].vertical, before[0].vertical) << "row " << row;
      EXPECT_EQ(after[0].slash, before[0].slash) << "row " << row;
    }
  }
}

TEST_P(SparseEstimateTest, ReadsNoKeyAfterARowAndNoValue) {
  // Rows of the last page that nobody wrote are NaN already; here all V are, and a huge last key
  // changes what its own row sees alone.
  const Sequence rows{600, 40};
  const std::int32_t heads[] = {0};
  for (const DType dtype : kDTypes) {
    Batch b(generator_, {1, 1, 64}, dtype, {&rows, 1});
    const auto before = Estimate(*backend_, b, heads);
    for (std::int64_t key = 0; key < 640; ++key) {
      for (std::int64_t d = 0; d < 64; ++d) b.caches[0].SetV(1, 0, key, d, std::nanf(""));
    }
    EXPECT_EQ(Estimate(*backend_, b, heads)[0].vertical, before[0].vertical);
    for (std::int64_t d = 0; d < 64; ++d) {
      b.caches[0].SetK(1, 0, 639, d, 10 * static_cast<float>(b.q.At(39, d)));
    }
    const auto after = Estimate(*backend_, b, heads);
    CheckLines(b, 0, 0, after[0]);
    EXPECT_GT(after[0].vertical[639], 0.99F) << "nobody saw the key";
  }
}

LONGSHADOW_ON_EVERY_BACKEND(SparseEstimateTest);

}  // namespace
}  // namespace longshadow::conformance

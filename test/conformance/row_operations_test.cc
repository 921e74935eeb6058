#include <algorithm>
#include <cmath>

#include "test/conformance/support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

constexpr std::int64_t kRows[] = {1, 3, 63, 64, 65, 511, 513, 700};

class RowOperationsTest : public BackendTest {};

TEST_P(RowOperationsTest, EmbedsRowsExactly) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Matrix table = Matrix::Random(generator_, dtype, 90, 37);
    for (const std::int64_t rows : kRows) {
      std::vector<std::uint32_t> ids(static_cast<std::size_t>(rows));
      for (std::uint32_t& id : ids) id = static_cast<std::uint32_t>(generator_() % 90);
      Matrix x(DType::kF32, rows, 37);
      backend_->Embed(table.View(), ids, x.View());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 37; ++c) {
          ASSERT_EQ(x.At(r, c), table.At(ids[static_cast<std::size_t>(r)], c));
        }
      }
    }
  }
}

TEST_P(RowOperationsTest, NormalisesRows) {
  for (const std::int64_t cols : {1, 7, 64, 520}) {
    for (const std::int64_t rows : kRows) {
      const DType dtype = rows % 2 == 0 ? DType::kF32 : DType::kBF16;
      const Matrix x = Matrix::Random(generator_, DType::kF32, rows, cols, 3.0F);
      std::vector<float> weight(static_cast<std::size_t>(cols));
      for (float& w : weight) w = Normal(generator_);
      Matrix out(dtype, rows, cols);
      backend_->RmsNorm(x.View(), weight, 1e-5F, out.View());
      // The sum of squares has only positive terms: (cols + 4) u relative, halved by the root;
      // root, reciprocal and two products add a rounding each.
      const double relative = (static_cast<double>(cols) + 12) * kF32Unit +
                              (dtype == DType::kBF16 ? 1.01 * kBF16Unit : 0);
      for (std::int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::int64_t c = 0; c < cols; ++c) squares += x.At(r, c) * x.At(r, c);
        const double root = std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (std::int64_t c = 0; c < cols; ++c) {
          const double expected =
              x.At(r, c) / root * static_cast<double>(weight[static_cast<std::size_t>(c)]);
          ASSERT_NEAR(out.At(r, c), expected, relative * std::abs(expected) + 1e-37);
        }
      }
    }
  }
}

TEST_P(RowOperationsTest, GatesWithSilu) {
  for (const std::int64_t cols : {1, 8, 65, 300}) {
    for (const std::int64_t rows : {1, 3, 65, 513}) {
      const DType dtype = rows % 3 == 0 ? DType::kF32 : DType::kBF16;
      Matrix gate_up = Matrix::Random(generator_, DType::kF32, rows, 2 * cols, 20.0F);
      gate_up.Set(0, 0, -200.0F);  // e^200 is past fp32
      Matrix out(dtype, rows, cols);
      backend_->SiluMul(gate_up.View(), out.View());
      const double relative =
          kExpF32 + 8 * kF32Unit + 1.01 * (dtype == DType::kBF16 ? kBF16Unit : 0);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
          const double g = gate_up.At(r, c);
          const double expected = g / (1 + std::exp(-g)) * gate_up.At(r, cols + c);
          // Below e^-85 a result may be flushed or saturated: 1e-34 is far under any activation.
          ASSERT_NEAR(out.At(r, c), expected, relative * std::abs(expected) + 1e-34) << g;
        }
      }
    }
  }
}

TEST_P(RowOperationsTest, RanksAndScoresTargets) {
  for (const std::int64_t vocab : {1, 5, 300, 4099}) {
    constexpr std::int64_t kCount = 9;
    Matrix logits = Matrix::Random(generator_, DType::kF32, kCount, vocab, 5.0F);
    for (std::int64_t c = 0; c < vocab; c += 3) logits.Set(1, c, 2.5F);  // ties
    std::vector<std::uint32_t> targets(kCount), ranks(kCount);
    for (std::uint32_t& t : targets) {
      t = static_cast<std::uint32_t>(generator_() % static_cast<std::uint64_t>(vocab));
    }
    targets[1] = static_cast<std::uint32_t>((vocab - 1) / 3 * 3);
    std::vector<float> logprobs(kCount);
    backend_->TokenLogprobs(logits.View(), targets, logprobs, ranks);
    for (std::int64_t r = 0; r < kCount; ++r) {
      const auto i = static_cast<std::size_t>(r);
      const std::int64_t target = targets[i];
      double top = logits.At(r, 0);
      for (std::int64_t c = 0; c < vocab; ++c) top = std::max(top, logits.At(r, c));
      double sum = 0;
      std::uint32_t rank = 1;
      for (std::int64_t c = 0; c < vocab; ++c) {
        sum += std::exp(logits.At(r, c) - top);
        const bool before = logits.At(r, c) == logits.At(r, target) && c < target;
        rank += logits.At(r, c) > logits.At(r, target) || before ? 1U : 0U;
      }
      const double expected = logits.At(r, target) - top - std::log(sum);
      // exp's error, sums of at most 1,024 lanes in fp32, the result's own rounding.
      const double tolerance = kExpF32 + 1100 * kF32Unit + 4 * kF32Unit * std::abs(expected) +
                               4 * kF32Unit * std::abs(top);
      EXPECT_NEAR(logprobs[i], expected, tolerance);
      EXPECT_EQ(ranks[i], rank);
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(RowOperationsTest);

}  // namespace
}  // namespace longshadow::conformance

#include <cmath>

#include "test/conformance/support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

struct Types {
  DType compute;
  DType weight;
};
constexpr Types kTypes[] = {{DType::kBF16, DType::kBF16},
                            {DType::kF32, DType::kBF16},
                            {DType::kF32, DType::kF32},
                            {DType::kBF16, DType::kF32}};

class MatMulTest : public BackendTest {
 protected:
  void CheckProduct(std::int64_t rows, std::int64_t out, std::int64_t in, Types types,
                    bool accumulate) {
    const Matrix x = Matrix::Random(generator_, types.compute, rows, in);
    const Matrix w = Matrix::Random(generator_, types.weight, out, in);
    // Padding between the rows of y, or none: the cpu backend takes another kernel.
    Matrix y = Matrix::Random(generator_, DType::kF32, rows, out, 1.0F, rows % 2 == 0 ? 3 : 0);
    const Matrix before = y;
    backend_->MatMul(x.View(), *backend_->Pack(w.View(), types.compute), y.View(), accumulate);
    backend_->Synchronize();
    std::int64_t wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t o = 0; o < out; ++o) {
        double sum = accumulate ? before.At(r, o) : 0;
        double size = std::abs(sum);
        for (std::int64_t i = 0; i < in; ++i) {
          sum += x.At(r, i) * w.At(o, i);
          size += std::abs(x.At(r, i) * w.At(o, i));
        }
        if (!(std::abs(y.At(r, o) - sum) <= SumTolerance(in, size))) ++wrong;
      }
    }
    EXPECT_EQ(wrong, 0) << rows << " x " << in << " -> " << out << ", compute "
                        << static_cast<int>(types.compute) << ", weight "
                        << static_cast<int>(types.weight) << ", accumulate " << accumulate;
  }
};

TEST_P(MatMulTest, MultipliesRaggedShapes) {
  for (const Types types : kTypes) {
    for (const std::int64_t rows : {1, 3, 63, 64, 65}) {
      CheckProduct(rows, 200, 72, types, rows % 2 == 0);
      CheckProduct(rows, 64, 129, types, rows % 2 == 1);
    }
    CheckProduct(2, 1, 1, types, false);
    CheckProduct(5, 33, 1500, types, true);
  }
}

TEST_P(MatMulTest, MultipliesManyRows) {
  for (const Types types : kTypes) {
    for (const std::int64_t rows : {511, 513, 700}) {
      CheckProduct(rows, 100, 40, types, rows != 513);
    }
  }
}

TEST_P(MatMulTest, TheBitsOfARowDoNotDependOnItsBatch) {
  constexpr std::int64_t kRows = 700;  // more than one row block of any kernel
  constexpr std::int64_t kOut = 200;
  for (const Types types : kTypes) {
    for (const std::int64_t in : {96, 1280}) {
      const Matrix x = Matrix::Random(generator_, types.compute, kRows, in);
      const Matrix w = Matrix::Random(generator_, types.weight, kOut, in);
      const auto packed = backend_->Pack(w.View(), types.compute);
      const Matrix start = Matrix::Random(generator_, DType::kF32, kRows, kOut, 1.0F, 0);
      Matrix alone = start;
      for (std::int64_t r = 0; r < kRows; r += 13) {
        backend_->MatMul(x.Rows(r, 1), *packed, alone.Rows(r, 1), true);
      }
      for (const std::int64_t rows : {2, 3, 7, 8, 63, 64, 65, 511, 512, 700}) {
        Matrix together = start;
        const std::int64_t first = (kRows - rows) / 2;
        backend_->MatMul(x.Rows(first, rows), *packed, together.Rows(first, rows), true);
        std::int64_t different = 0;
        for (std::int64_t r = 0; r < first + rows; r += 13) {
          if (r < first) continue;
          different += together.RowBitsEqual(r, alone, r) ? 0 : 1;
        }
        EXPECT_EQ(different, 0) << rows << " rows of " << in << " features";
      }
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(MatMulTest);

}  // namespace
}  // namespace longshadow::conformance

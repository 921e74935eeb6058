#include <cmath>

#include "test/conformance/support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

struct Angles {
  std::vector<float> inv_freq;
  float attention_factor = 1;
};

Angles MakeAngles(std::int32_t rotary_dim, double theta) {
  Angles angles;
  for (std::int32_t i = 0; i < rotary_dim / 2; ++i) {
    angles.inv_freq.push_back(static_cast<float>(std::pow(theta, -2.0 * i / rotary_dim)));
  }
  return angles;
}

class RopeTest : public BackendTest {
 protected:
  /// The element c of a rotated head and the size of what was added up for it.
  static std::pair<double, double> Rotated(const Matrix& qkv, std::int64_t row, std::int64_t head,
                                           std::int64_t c, std::int64_t position,
                                           const Angles& angles) {
    const auto half = static_cast<std::int64_t>(angles.inv_freq.size());
    if (c >= 2 * half) return {qkv.At(row, head + c), 0};
    const std::int64_t i = c % half;
    // The angle is an fp32 product by contract; its cosine is exact here.
    const float angle = static_cast<float>(position) * angles.inv_freq[static_cast<std::size_t>(i)];
    const double factor = static_cast<double>(angles.attention_factor);
    const double cosine = std::cos(static_cast<double>(angle)) * factor;
    const double sine = std::sin(static_cast<double>(angle)) * factor;
    const double a = qkv.At(row, head + i);
    const double b = qkv.At(row, head + half + i);
    const double size = (std::abs(a) + std::abs(b)) * factor;
    return {c < half ? a * cosine - b * sine : b * cosine + a * sine, size};
  }

  void Check(std::int32_t dim, const Angles& angles, DType q_dtype, DType kv_dtype,
             std::int64_t position, std::int64_t rows) {
    const AttentionShape shape{6, 3, dim, 1};
    const KvGeometry geometry{2, 3, dim, kv_dtype};
    const RopeTable table{angles.inv_freq, angles.attention_factor};
    const Matrix qkv = Matrix::Random(generator_, DType::kF32, rows + 2, 12 * dim);
    // Two sequences in one call, the second with two rows at position 0; near the end of a
    // million positions the page table repeats pages, which is fine for fewer than 1,024 rows.
    const std::int64_t distinct = position > 100000 ? 3 : 0;
    PagedKv first(geometry, position + rows, distinct);
    PagedKv second(geometry, 2);
    const SequenceRows sequences[] = {{0, rows, position, first.pages()},
                                      {rows, 2, 0, second.pages()}};
    Matrix q(q_dtype, rows + 2, 6 * dim);
    backend_->RopeAndStore(qkv.View(), shape, table, geometry, 1, sequences, q.View());
    backend_->Synchronize();
    std::int64_t wrong = 0;
    const auto expect = [&](double got, double expected, double size, DType dtype) {
      // cos and sin within an ulp, scaled; two products, one addition; then storage.
      const double tolerance =
          6 * kF32Unit * size + (dtype == DType::kBF16 ? 1.01 * kBF16Unit * std::abs(expected) : 0);
      if (!(std::abs(got - expected) <= tolerance)) ++wrong;
    };
    for (std::int64_t r = 0; r < rows + 2; ++r) {
      const PagedKv& cache = r < rows ? first : second;
      const std::int64_t at = r < rows ? position + r : r - rows;
      for (std::int64_t c = 0; c < dim; ++c) {
        for (std::int64_t h = 0; h < 6; ++h) {
          const auto [value, size] = Rotated(qkv, r, h * dim, c, at, angles);
          expect(q.At(r, h * dim + c), value, size, q_dtype);
        }
        for (std::int32_t h = 0; h < 3; ++h) {
          const auto [value, size] = Rotated(qkv, r, (6 + h) * dim, c, at, angles);
          expect(cache.K(1, h, at, c), value, size, kv_dtype);
          expect(cache.V(1, h, at, c), qkv.At(r, (9 + h) * dim + c), 0, kv_dtype);
        }
      }
    }
    EXPECT_EQ(wrong, 0) << "head_dim " << dim << " at " << position << ", " << rows << " rows";
  }
};

TEST_P(RopeTest, RotatesAndStores) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int32_t dim : {8, 40, 64, 96, 128, 256}) {
      for (const std::int64_t rows : {1, 3, 65}) {
        Check(dim, MakeAngles(dim, 1e4), dtype, dtype, 500, rows);
      }
    }
    Check(64, MakeAngles(64, 1e8), dtype, dtype, 0, 700);
    Check(64, MakeAngles(32, 1e4), dtype, DType::kF32, 100, 5);  // only half of a head rotates
  }
}

TEST_P(RopeTest, AppliesTheAttentionFactor) {
  Angles angles = MakeAngles(64, 1e4);
  angles.attention_factor = 1.19F;
  Check(64, angles, DType::kF32, DType::kF32, 17, 3);
}

TEST_P(RopeTest, ReducesAnglesExactlyAtTheLastOfAMillionPositions) {
  for (const double theta : {1e4, 5e5, 1e8}) {
    Check(64, MakeAngles(64, theta), DType::kF32, DType::kF32, 1048575, 1);
    Check(128, MakeAngles(128, theta), DType::kBF16, DType::kBF16, 1048576 - 65, 65);
  }
}

LONGSHADOW_ON_EVERY_BACKEND(RopeTest);

}  // namespace
}  // namespace longshadow::conformance

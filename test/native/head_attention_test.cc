#include "engine/head_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "test/conformance/tolerance.h"
#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::Random;

constexpr AttentionShape kShape{6, 3, 24, 0.2F};
constexpr std::int32_t kLayers = 2;
constexpr std::int64_t kWidth = std::int64_t{kShape.query_heads} * kShape.head_dim;

std::vector<std::byte> Elements(Random& random, std::int64_t count, double deviation, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * DTypeBytes(dtype));
  std::normal_distribution<float> normal(0, static_cast<float>(deviation));
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const float value = normal(random.bits());
    if (dtype == DType::kF32) {
      reinterpret_cast<float*>(bytes.data())[i] = value;
    } else {
      reinterpret_cast<BFloat16*>(bytes.data())[i] = BFloat16::FromFloat(value);
    }
  }
  return bytes;
}

double At(const MatrixView& matrix, std::int64_t row, std::int64_t column) {
  const std::int64_t i = row * matrix.stride + column;
  return matrix.dtype == DType::kF32 ? static_cast<const float*>(matrix.data)[i]
                                     : static_cast<const BFloat16*>(matrix.data)[i].ToFloat();
}

class HeadAttention : public testing::TestWithParam<std::pair<std::string, DType>> {};

TEST_P(HeadAttention, IsThatHeadsPartOfAllHeads) {
  const auto& [device, dtype] = GetParam();
  Random random;
  const auto backend = MakeBackend(device, 2);
  const KvGeometry geometry{kLayers, kShape.kv_heads, kShape.head_dim, dtype};
  const std::int64_t rows = 5 + random.Below(60);
  const std::int64_t position = random.Below(2 * kPageTokens);
  const std::int64_t elements = geometry.PageBytes() / static_cast<std::int64_t>(DTypeBytes(dtype));
  std::vector<std::vector<std::byte>> pages;
  for (int i = 0; i < 6; ++i) pages.push_back(Elements(random, elements, 1, dtype));
  const std::vector<std::byte*> k = {pages[0].data(), pages[1].data(), pages[2].data()};
  const std::vector<std::byte*> v = {pages[3].data(), pages[4].data(), pages[5].data()};
  const SequenceRows sequence{0, rows, position, {k, v}};
  // Scores of a deviation of 3: a row looks at few keys, so that heads differ.
  auto queries = Elements(random, rows * kWidth, 3, dtype);
  auto all = Elements(random, rows * kWidth, 1, dtype);
  auto one = Elements(random, rows * kShape.head_dim, 1, dtype);
  const MatrixView q{queries.data(), dtype, rows, kWidth, kWidth};
  const MatrixView expected{all.data(), dtype, rows, kWidth, kWidth};
  const MatrixView out{one.data(), dtype, rows, kShape.head_dim, kShape.head_dim};
  // Twice what either is off by at most: scores of up to 24 * 12 * 4 * 0.2, values of up to 5.
  const double bound =
      2 * conformance::AttentionTolerance({kShape.head_dim, 240, 5, 5, 1600, 1600}, dtype);
  for (std::int32_t layer = 0; layer < kLayers; ++layer) {
    backend->Attention(q, kShape, geometry, layer, {&sequence, 1}, expected);
    for (std::int32_t head = 0; head < kShape.query_heads; ++head) {
      AttendHead(*backend, q, {kShape, geometry, layer, head}, sequence, out);
      backend->Synchronize();
      double farthest = 0;
      double farthest_of_next = 0;
      const std::int32_t next = (head + 1) % kShape.query_heads;
      for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t d = 0; d < kShape.head_dim; ++d) {
          const double got = At(out, row, d);
          farthest =
              std::max(farthest, std::abs(got - At(expected, row, head * kShape.head_dim + d)));
          farthest_of_next = std::max(
              farthest_of_next, std::abs(got - At(expected, row, next * kShape.head_dim + d)));
        }
      }
      EXPECT_LE(farthest, bound) << "layer " << layer << ", head " << head;
      EXPECT_GT(farthest_of_next, 2 * bound) << "the bound tells heads apart";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, HeadAttention,
                         testing::Values(std::pair{"reference", DType::kF32},
                                         std::pair{"cpu", DType::kF32},
                                         std::pair{"cpu", DType::kBF16}));

}  // namespace
}  // namespace longshadow

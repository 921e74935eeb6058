#include <gtest/gtest.h>

#include <cmath>

#include "longshadow/backend.h"
#include "longshadow/model_config.h"

namespace longshadow {
namespace {

ModelConfig Llama31() {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_theta = 5e5;
  config.rope_scaling = Llama3RopeScaling{};
  return config;
}

TEST(Rope, MatchesPublishedLlama31Frequencies) {
  ModelConfig plain = Llama31();
  plain.rope_scaling.reset();
  const std::vector<float> before = InverseRopeFrequencies(plain);
  const std::vector<float> after = InverseRopeFrequencies(Llama31());
  struct Check {
    std::size_t i;
    double plain;
    double scaled;
  };
  const std::vector<Check> checks = {{0, 1, 1},
                                     {1, 8.146172339e-1, 8.146172339e-1},
                                     {16, 3.760603093e-2, 3.760603093e-2},
                                     {28, 3.211445995e-3, 3.211445995e-3},
                                     {29, 2.616099253e-3, 2.166570764e-3},
                                     {30, 2.131119537e-3, 1.371893568e-3},
                                     {32, 1.414213562e-3, 5.248461610e-4},
                                     {34, 9.384738704e-4, 1.785078128e-4},
                                     {35, 7.644969883e-4, 9.556212354e-5},
                                     {63, 2.455140791e-6, 3.068925989e-7}};
  ASSERT_EQ(before.size(), 64U);
  for (const Check& check : checks) {
    // Half an ulp of fp32, and the ten digits of the published values.
    const double tolerance = 0x1p-24 + 1e-9;
    EXPECT_NEAR(before[check.i] / check.plain, 1, tolerance) << check.i;
    EXPECT_NEAR(after[check.i] / check.scaled, 1, tolerance) << check.i;
  }
}

TEST(Rope, RoundsFrequenciesOfModelsThatSayTheyAre) {
  ModelConfig config = Llama31();
  const std::vector<float> exact = InverseRopeFrequencies(config);
  config.rope_frequency_dtype = DType::kBF16;
  const std::vector<float> rounded = InverseRopeFrequencies(config);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_EQ(rounded[i], BFloat16::FromFloat(exact[i]).ToFloat()) << i;
  }
}

/// Rotates the unit vector (1, 0) of every pair at a position and returns q: cosines, then sines.
std::vector<float> RotateOnes(Backend& backend, const std::vector<float>& inv_freq,
                              std::int64_t position) {
  const auto half = static_cast<std::int64_t>(inv_freq.size());
  const std::int64_t head_dim = 2 * half;
  const AttentionShape shape{1, 1, static_cast<std::int32_t>(head_dim), 1.0F};
  const KvGeometry geometry{1, 1, static_cast<std::int32_t>(head_dim), DType::kF32};
  std::vector<float> qkv(static_cast<std::size_t>(3 * head_dim));
  for (std::int64_t i = 0; i < half; ++i) qkv[static_cast<std::size_t>(i)] = 1;
  std::vector<std::byte> page(static_cast<std::size_t>(geometry.PageBytes()));
  // Only the page of the row is touched; the ones before need no memory.
  std::vector<std::byte*> pages(static_cast<std::size_t>(position / kPageTokens + 1), nullptr);
  pages.back() = page.data();
  std::vector<std::byte> value_page(page.size());
  std::vector<std::byte*> value_pages = pages;
  value_pages.back() = value_page.data();
  const SequenceRows rows{0, 1, position, {pages, value_pages}};
  std::vector<float> q(static_cast<std::size_t>(head_dim));
  backend.RopeAndStore({qkv.data(), DType::kF32, 1, 3 * head_dim, 3 * head_dim}, shape,
                       RopeTable{inv_freq, 1.0F}, geometry, 0, {&rows, 1},
                       {q.data(), DType::kF32, 1, head_dim, head_dim});
  backend.Synchronize();
  return q;
}

class RopeOnBackend : public testing::TestWithParam<const char*> {};

TEST_P(RopeOnBackend, KeepsFullRangeAtPosition1048575) {
  const auto backend = MakeBackend(GetParam(), 1);
  const std::vector<float> inv_freq = InverseRopeFrequencies(Llama31());
  const std::int64_t position = 1'048'575;
  const std::vector<float> q = RotateOnes(*backend, inv_freq, position);
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    // The contract's angle is the fp32 product, exact to the last bit; its cosine and sine are
    // fp32: half an ulp of a value up to 1 for rounding, and up to 2 ulp from the function.
    const float product = static_cast<float>(position) * inv_freq[i];
    const auto angle = static_cast<long double>(product);
    const double tolerance = 2.5 * 0x1p-24;
    EXPECT_NEAR(q[i], static_cast<double>(cosl(angle)), tolerance) << i;
    EXPECT_NEAR(q[i + inv_freq.size()], static_cast<double>(sinl(angle)), tolerance) << i;
    // And that product is one fp32 rounding away from the exact one.
    const long double exact =
        static_cast<long double>(position) * static_cast<long double>(inv_freq[i]);
    EXPECT_LE(std::abs(static_cast<double>(angle - exact)), 0x1p-24 * static_cast<double>(exact))
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RopeOnBackend, testing::Values("reference", "cpu"));

}  // namespace
}  // namespace longshadow

#include "longshadow/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "sampling/logit_processors.h"
#include "sampling/philox.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::CodeOf;

/// Logits of given probabilities.
std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<std::int64_t> Draws(const std::vector<float>& logits, SamplingParameters parameters,
                                std::uint64_t count) {
  std::vector<std::int64_t> histogram(logits.size());
  for (std::uint64_t i = 0; i < count; ++i) ++histogram[SampleToken(logits, parameters, i)];
  return histogram;
}

std::set<std::uint32_t> Support(const std::vector<std::int64_t>& histogram) {
  std::set<std::uint32_t> ids;
  for (std::uint32_t i = 0; i < histogram.size(); ++i) {
    if (histogram[i] > 0) ids.insert(i);
  }
  return ids;
}

TEST(Philox, GivesThePublishedKnownAnswers) {
  const std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_EQ(Philox2x64({0, 0}, 0),
            (std::array<std::uint64_t, 2>{0xca00a0459843d731ULL, 0x66c24222c9a845b5ULL}));
  EXPECT_EQ(Philox2x64({ones, ones}, ones),
            (std::array<std::uint64_t, 2>{0x65b021d60cd8310fULL, 0x4d02f3222f86df20ULL}));
  EXPECT_EQ(Philox2x64({0x243f6a8885a308d3ULL, 0x13198a2e03707344ULL}, 0xa4093822299f31d0ULL),
            (std::array<std::uint64_t, 2>{0x0a5e742c2997341cULL, 0xb0f883d38000de5dULL}));
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  EXPECT_EQ(SampleToken(std::vector<float>{1, 5, 3}, {}, 0), 1U);
  EXPECT_EQ(SampleToken(std::vector<float>{1, 5, 5, 2}, {}, 9), 1U);
  EXPECT_EQ(SampleToken(std::vector<float>{-INFINITY, -3}, {}, 0), 1U);
}

TEST(Sampler, IsAFunctionOfSeedAndIndex) {
  const std::vector<float> logits(1000, 0.0F);
  SamplingParameters parameters{.temperature = 1, .seed = 42};
  std::set<std::uint32_t> tokens;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const std::uint32_t token = SampleToken(logits, parameters, i);
    EXPECT_EQ(SampleToken(logits, parameters, i), token);
    tokens.insert(token);
  }
  // 100 uniform draws of 1000: fewer than 80 distinct has probability below 1e-9.
  EXPECT_GT(tokens.size(), 80U);
  parameters.seed = 43;
  int equal = 0;
  for (std::uint64_t i = 0; i < 100; ++i) {
    equal += SampleToken(logits, parameters, i) ==
             SampleToken(logits, {.temperature = 1, .seed = 42}, i);
  }
  EXPECT_LT(equal, 10);
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<double> probabilities = {0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005};
  constexpr std::uint64_t kDraws = 40'000;
  for (const float temperature : {1.0F, 0.7F, 1.6F}) {
    const auto histogram =
        Draws(LogitsOf(probabilities), {.temperature = temperature, .seed = 7}, kDraws);
    std::vector<double> expected;
    double sum = 0;
    for (const double p : probabilities) {
      expected.push_back(std::pow(p, 1 / static_cast<double>(temperature)));
      sum += expected.back();
    }
    double chi_square = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double mean = expected[i] / sum * static_cast<double>(kDraws);
      const double difference = static_cast<double>(histogram[i]) - mean;
      chi_square += difference * difference / mean;
    }
    // 7 degrees of freedom: 24.3 is the quantile 0.999. The seed is fixed: the test is too.
    EXPECT_LT(chi_square, 24.3) << temperature;
  }
}

TEST(Sampler, TopKKeepsExactlyTheLargestAndLowerIdsOfTies) {
  const std::vector<float> logits = {0, 2, 1, 2, 1, 1, -1};
  SamplingParameters parameters{.temperature = 3, .top_k = 3, .seed = 1};
  EXPECT_EQ(Support(Draws(logits, parameters, 2000)), (std::set<std::uint32_t>{1, 2, 3}));
  parameters.top_k = 1;
  EXPECT_EQ(Support(Draws(logits, parameters, 200)), (std::set<std::uint32_t>{1}));
  parameters.top_k = 100;
  EXPECT_EQ(Support(Draws(logits, parameters, 5000)).size(), logits.size());
}

TEST(Sampler, TopPKeepsTheShortestRunThatReachesP) {
  const std::vector<float> logits = LogitsOf({0.1, 0.5, 0.25, 0.15});
  SamplingParameters parameters{.temperature = 1, .top_p = 0.74F, .seed = 3};
  EXPECT_EQ(Support(Draws(logits, parameters, 2000)), (std::set<std::uint32_t>{1, 2}));
  parameters.top_p = 0.76F;
  EXPECT_EQ(Support(Draws(logits, parameters, 2000)), (std::set<std::uint32_t>{1, 2, 3}));
  parameters.top_p = 0.01F;
  EXPECT_EQ(Support(Draws(logits, parameters, 200)), (std::set<std::uint32_t>{1}));
  parameters.top_p = 1;
  EXPECT_EQ(Support(Draws(logits, parameters, 2000)).size(), 4U);
}

TEST(Sampler, TopPIsExactBeyondItsFirstSortedRun) {
  // 5,000 equal tokens: p = 0.5 keeps the lower half, by ids.
  std::vector<Candidate> candidates = ApplyTemperature(std::vector<float>(5000, 1.0F), 1.0F, 1.0F);
  KeepTopP(candidates, 0.5F);
  ASSERT_EQ(candidates.size(), 2500U);
  for (std::uint32_t i = 0; i < 2500; ++i) EXPECT_EQ(candidates[i].id, i);
}

TEST(Sampler, TopPActsAfterTopK) {
  // Of the kept two thirds, 0.7 is reached by the first alone: 0.5 / 0.7 > 0.7.
  const std::vector<float> logits = LogitsOf({0.5, 0.2, 0.2, 0.1});
  const SamplingParameters parameters{.temperature = 1, .top_k = 2, .top_p = 0.7F, .seed = 5};
  EXPECT_EQ(Support(Draws(logits, parameters, 500)), (std::set<std::uint32_t>{0}));
}

TEST(Sampler, TinyTemperaturesDoNotOverflow) {
  const std::vector<float> logits = {3, 80, -80, 79};
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(Support(Draws(logits, {.temperature = tiny, .seed = 2}, 100)),
            (std::set<std::uint32_t>{1}));
}

TEST(Sampler, RefusesParametersOutOfRange) {
  const std::vector<SamplingParameters> cases = {
      {.temperature = -0.1F}, {.temperature = NAN}, {.temperature = INFINITY},
      {.top_k = -1},          {.top_p = 0},         {.top_p = 1.01F},
      {.top_p = NAN},
  };
  for (const SamplingParameters& parameters : cases) {
    EXPECT_EQ(CodeOf([&] { CheckSamplingParameters(parameters); }), ErrorCode::kInvalidArgument);
  }
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  for (const std::vector<float>& logits :
       {std::vector<float>{0, NAN}, {NAN, 0}, {-INFINITY, -INFINITY}, {0, INFINITY}, {}}) {
    EXPECT_EQ(CodeOf([&] { SampleToken(logits, {}, 0); }), ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace longshadow

// Golden greedy ids of the stories260K model, from an independent fp64 implementation. The model is
// not part of the repository: without it the tests are skipped.
#include <gtest/gtest.h>

#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::DecodeGreedy;
using model_test::OpenEngine;
using model_test::ReadJson;

constexpr const char* kFolder = "../shared/reference/stories260K";

class Stories : public testing::TestWithParam<const char*> {};

TEST_P(Stories, ContinuesAsTheGoldenIdsSay) {
  if (!std::filesystem::exists(kFolder)) GTEST_SKIP() << kFolder << " is absent";
  const auto engine = OpenEngine(kFolder, GetParam(), DType::kF32);
  const auto golden = ReadJson(std::string(kFolder) + "/golden.json");
  for (const auto& story : golden["cases"]) {
    const auto prompt = story["prompt_ids"].get<std::vector<std::uint32_t>>();
    const auto expected = story["greedy_ids"].get<std::vector<std::uint32_t>>();
    const auto last_logits = story["prompt_last_logits"].get<std::vector<float>>();
    const auto session = DecodeSession::OpenScratch(engine->info().geometry);
    const std::vector<std::int64_t> rows = {static_cast<std::int64_t>(prompt.size()) - 1};
    const auto logits = engine->AppendLogits(*session, prompt, rows);
    ASSERT_EQ(logits.size(), last_logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      // fp32 dot products over 64 to 172 terms through 5 layers; logits are below 20: some 2^-24
      // * sqrt(172) * 20 a layer, and as the golden values keep few digits, 1e-3.
      EXPECT_NEAR(logits[i], last_logits[i], 1e-3F) << i;
    }
    EXPECT_EQ(DecodeGreedy(*engine, session, expected.size()), expected)
        << story["prompt"] << ", smallest gap " << story["smallest_top1_top2_logit_gap"];
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Stories, testing::Values("reference", "cpu"));

}  // namespace
}  // namespace longshadow

// The embedded model answers its samples on the CPU in bf16, decoded greedily after a chunked
// prefill.
#include <gtest/gtest.h>

#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::AppendInChunks;
using model_test::DecodeGreedy;
using model_test::OpenEngine;
using model_test::ReadJson;

constexpr const char* kFolder = "models/needle";

TEST(Needle, AnswersItsSamplesOnTheCpuInBf16) {
  const auto engine = OpenEngine(kFolder, "cpu", DType::kBF16);
  const auto samples = ReadJson(std::string(kFolder) + "/samples.json");
  ASSERT_EQ(samples.size(), 3U);
  for (const auto& sample : samples) {
    const auto ids = sample["ids"].get<std::vector<std::uint32_t>>();
    const auto first = sample["answer_positions"].front().get<std::size_t>();
    const auto last = sample["answer_positions"].back().get<std::size_t>();
    const std::vector<std::uint32_t> prompt(ids.begin(),
                                            ids.begin() + static_cast<std::ptrdiff_t>(first));
    const std::vector<std::uint32_t> answer(ids.begin() + static_cast<std::ptrdiff_t>(first),
                                            ids.begin() + static_cast<std::ptrdiff_t>(last) + 1);
    const auto session = DecodeSession::OpenScratch(engine->info().geometry);
    AppendInChunks(*engine, *session, prompt, {}, 2048);
    EXPECT_EQ(session->tokens(), static_cast<std::int64_t>(first));
    EXPECT_EQ(DecodeGreedy(*engine, session, answer.size()), answer) << sample["kind"];
  }
}

TEST(Needle, DescribesItself) {
  const auto engine = OpenEngine(kFolder, "cpu", DType::kBF16);
  const EngineInfo& info = engine->info();
  EXPECT_EQ(info.parameters, 10'425'216);
  EXPECT_EQ(info.geometry.layers, 6);
  EXPECT_EQ(info.geometry.BytesPerToken(), 2 * 6 * 2 * 64 * 2);
  EXPECT_EQ(info.config.max_positions, 1'048'576);
  EXPECT_EQ(info.model_fingerprint.size(), 32U);
  EXPECT_EQ(info.device, "cpu");
}

TEST(Needle, ItsPackedWeightsTakeTwoBytesAParameter) {
  // Norms are not packed, and panels of 64 features may be padded: each a few per cent at most.
  const auto engine = OpenEngine(kFolder, "cpu", DType::kBF16);
  const auto parameters = static_cast<double>(engine->info().parameters);
  EXPECT_NEAR(static_cast<double>(engine->info().packed_bytes), 2 * parameters, 0.05 * parameters);
  // fp32 arithmetic widens them as it goes.
  const auto wide = OpenEngine(kFolder, "cpu", DType::kF32);
  EXPECT_EQ(wide->info().packed_bytes, engine->info().packed_bytes);
}

}  // namespace
}  // namespace longshadow

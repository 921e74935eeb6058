// Sessions decoded together get the bits that they get alone.
#include <gtest/gtest.h>

#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::GreedyItem;
using model_test::OpenEngine;
using model_test::RandomIds;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteModel;

constexpr std::size_t kSteps = 12;
constexpr std::uint32_t kVocab = 97;

struct Case {
  std::string device;
  DType dtype;
};

void PrintTo(const Case& test_case, std::ostream* out) {
  *out << test_case.device << (test_case.dtype == DType::kF32 ? " fp32" : " bf16");
}

/// What a session was given in its steps.
struct Trace {
  std::vector<std::uint32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> last_hidden;
  bool operator==(const Trace&) const = default;
};

class EngineBatch : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    WriteModel(folder_.path(), SmallConfig());
    engine_ = OpenEngine(folder_.path(), GetParam().device, GetParam().dtype);
    prompts_ = {RandomIds(3, kVocab, 1), RandomIds(700, kVocab, 2), RandomIds(250, kVocab, 3)};
  }

  std::shared_ptr<DecodeSession> Prefilled(std::size_t prompt) {
    auto session = DecodeSession::OpenScratch(engine_->info().geometry);
    engine_->AppendLogits(*session, prompts_[prompt], {});
    return session;
  }

  /// Decodes the given prompts together: sampled at temperature 1, from the last hidden row on.
  std::vector<Trace> Run(const std::vector<std::size_t>& which) {
    std::vector<std::shared_ptr<DecodeSession>> sessions;
    for (const std::size_t prompt : which) sessions.push_back(Prefilled(prompt));
    std::vector<Trace> traces(which.size());
    for (std::size_t step = 0; step < kSteps; ++step) {
      std::vector<DecodeItem> items;
      for (std::size_t i = 0; i < which.size(); ++i) {
        const std::span last = std::span(traces[i].tokens).last(step == 0 ? 0 : 1);
        items.push_back(GreedyItem(sessions[i], last, step));
        items.back().sampling = {.temperature = 1, .seed = which[i]};
      }
      const auto results = engine_->DecodeStep(items);
      for (std::size_t i = 0; i < which.size(); ++i) {
        EXPECT_FALSE(results[i].error);
        traces[i].tokens.push_back(results[i].token.value_or(0));
        traces[i].logprobs.push_back(results[i].logprob);
      }
    }
    for (std::size_t i = 0; i < which.size(); ++i)
      traces[i].last_hidden = sessions[i]->last_hidden();
    return traces;
  }

  TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
  std::vector<std::vector<std::uint32_t>> prompts_;
};

TEST_P(EngineBatch, ThreeSessionsOfUnequalLengthGetTheBitsTheyGetAlone) {
  const auto together = Run({0, 1, 2});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(together[i], Run({i}).front()) << "session " << i;
  }
  const auto reordered = Run({2, 0, 1});
  EXPECT_EQ(reordered[0], together[2]);
  EXPECT_EQ(reordered[1], together[0]);
}

TEST_P(EngineBatch, TurnsOfSeveralRowsGetTheBitsTheyGetAlone) {
  const std::vector<std::vector<std::uint32_t>> turns = {
      RandomIds(256, kVocab, 4), RandomIds(1, kVocab, 5), RandomIds(255, kVocab, 6)};
  std::vector<DecodeItem> items;
  for (std::size_t i = 0; i < 3; ++i) items.push_back(GreedyItem(Prefilled(i), turns[i]));
  // 512 rows: the third turn fills the first block to its last row. One more starts a second.
  const std::vector<std::uint32_t> extra = RandomIds(64, kVocab, 7);
  items.push_back(GreedyItem(Prefilled(0), extra));
  const auto together = engine_->DecodeStep(items);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const DecodeItem alone = GreedyItem(Prefilled(i % 3), items[i].token_ids);
    const auto result = engine_->DecodeStep({&alone, 1}).front();
    EXPECT_EQ(together[i].token, result.token) << i;
    EXPECT_EQ(together[i].logprob, result.logprob) << i;
    EXPECT_EQ(items[i].session->last_hidden(), alone.session->last_hidden()) << i;
  }
}

TEST_P(EngineBatch, AFailingSessionChangesNoOther) {
  const std::vector<std::uint32_t> ids = {5};
  const std::vector<DecodeItem> items = {
      GreedyItem(Prefilled(0), ids), GreedyItem(Prefilled(1), ids), GreedyItem(Prefilled(2), ids)};
  items[1].session->cancellation().Cancel();
  const auto results = engine_->DecodeStep(items);
  EXPECT_EQ(results[1].error->code(), ErrorCode::kCancelled);
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}}) {
    const DecodeItem alone = GreedyItem(Prefilled(i), ids);
    const auto expected = engine_->DecodeStep({&alone, 1}).front();
    EXPECT_EQ(results[i].token, expected.token);
    EXPECT_EQ(results[i].logprob, expected.logprob);
    EXPECT_EQ(items[i].session->last_hidden(), alone.session->last_hidden());
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineBatch,
                         testing::Values(Case{"reference", DType::kF32},
                                         Case{"reference", DType::kBF16}, Case{"cpu", DType::kF32},
                                         Case{"cpu", DType::kBF16}),
                         [](const testing::TestParamInfo<Case>& info) {
                           return info.param.device +
                                  (info.param.dtype == DType::kF32 ? "_fp32" : "_bf16");
                         });

}  // namespace
}  // namespace longshadow

#include "longshadow/engine.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/row_blocks.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::AppendInChunks;
using model_test::CodeOf;
using model_test::GreedyItem;
using model_test::OpenEngine;
using model_test::RandomIds;
using model_test::RandomWeights;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteFile;
using model_test::WriteModel;
using model_test::WriteModelWithNaN;

constexpr std::uint32_t kVocab = 97;

TEST(RowBlocks, CutEachSequenceByItsOwnRowsAndPackWholePieces) {
  const std::vector<StackedRows> stack = {{0, 600, 0}, {600, 300, 70}, {900, 200, 0}, {1100, 1, 5}};
  const auto blocks = CutIntoBlocks(stack, kRowBlock);
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks[0].rows, 512);
  EXPECT_EQ(blocks[1].row_begin, 512);
  EXPECT_EQ(blocks[1].rows, 388);  // 88 and 300; 200 more would pass 512
  ASSERT_EQ(blocks[1].pieces.size(), 2U);
  EXPECT_EQ(blocks[1].pieces[0].position, 512);
  EXPECT_EQ(blocks[1].pieces[1].position, 70);
  EXPECT_EQ(blocks[2].row_begin, 900);
  EXPECT_EQ(blocks[2].rows, 201);
}

TEST(RowBlocks, AreSmallerWhereTheModelIsWide) {
  EXPECT_EQ(RowsOfACall(2 * 384 * 2 * 1024), 512);      // the embedded model
  EXPECT_EQ(RowsOfACall(2 * 4096 * 2 * 14336), 128);    // 8B: gate and up, 30 GFLOP in all
  EXPECT_EQ(RowsOfACall(2LL * 4096 * 128256), 64);      // 8B: the head, 67 GFLOP
  EXPECT_EQ(RowsOfACall(2LL * 16384 * 2 * 53248), 64);  // 405B: never fewer
  const std::vector<StackedRows> stack = {{0, 300, 0}, {300, 1, 9}};
  const auto blocks = CutIntoBlocks(stack, 128);
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks[2].row_begin, 256);
  EXPECT_EQ(blocks[2].rows, 45);
}

TEST(RowBlocks, AttentionCallsShrinkWithTheContextButNotBelowABlock) {
  EXPECT_GE(AttentionSliceRows(512, 4096), kRowBlock);
  EXPECT_EQ(AttentionSliceRows(512, 131072), 128);
  EXPECT_EQ(AttentionSliceRows(4096, 1048576), 64);
  EXPECT_EQ(AttentionSliceRows(512, 100'000) % 64, 0);
}

class EngineOn : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    WriteModel(folder_.path(), SmallConfig());
    engine_ = OpenEngine(folder_.path(), GetParam(), DType::kF32);
  }
  std::shared_ptr<DecodeSession> Open() {
    return DecodeSession::OpenScratch(engine_->info().geometry);
  }
  TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
};

TEST_P(EngineOn, LogitsDoNotDependOnTheChunk) {
  const auto ids = RandomIds(700, kVocab, 1);
  const std::vector<std::int64_t> rows = {0, 511, 512, 640, 699};
  const auto one = Open();
  const auto expected = AppendInChunks(*engine_, *one, ids, rows, ids.size());
  for (const std::size_t chunk : {512, 77}) {
    const auto session = Open();
    const auto logits = AppendInChunks(*engine_, *session, ids, rows, chunk);
    ASSERT_EQ(logits.size(), expected.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      // fp32 sums of up to 80 terms (and of softmax weights that sum to 1) in another order: a
      // relative error of 2^-24 * 80 a product, two layers of four products, logits below 8.
      EXPECT_NEAR(logits[i], expected[i], 0x1p-24F * 80 * 8 * 8) << chunk;
    }
    EXPECT_EQ(session->tokens(), 700);
  }
}

TEST_P(EngineOn, DecodeStepAgreesWithAppendLogits) {
  const auto prompt = RandomIds(40, kVocab, 2);
  const auto a = Open();
  const auto b = Open();
  const std::vector<std::int64_t> last = {39};
  const auto logits = engine_->AppendLogits(*a, prompt, last);
  const DecodeItem item = GreedyItem(b, prompt);
  const auto result = engine_->DecodeStep({&item, 1}).front();
  ASSERT_FALSE(result.error) << result.error->what();
  const auto best = std::max_element(logits.begin(), logits.end());
  EXPECT_EQ(result.token, static_cast<std::uint32_t>(best - logits.begin()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - *best));
  EXPECT_NEAR(result.logprob, -std::log(sum), 1e-5);
  EXPECT_EQ(result.rank, 1U);
  EXPECT_EQ(a->last_hidden(), b->last_hidden());
}

TEST_P(EngineOn, SamplesFromTheLastHiddenRowWhenNothingIsAppended) {
  const auto prompt = RandomIds(40, kVocab, 2);
  const auto a = Open();
  const auto b = Open();
  DecodeItem with = GreedyItem(a, prompt);
  const auto expected = engine_->DecodeStep({&with, 1}).front();
  engine_->AppendLogits(*b, prompt, {});
  DecodeItem without = GreedyItem(b, {});
  const auto result = engine_->DecodeStep({&without, 1}).front();
  ASSERT_FALSE(result.error);
  EXPECT_EQ(result.token, expected.token);
  EXPECT_EQ(result.logprob, expected.logprob);
  EXPECT_EQ(b->tokens(), 40);
  DecodeItem fresh = GreedyItem(Open(), {});
  EXPECT_EQ(engine_->DecodeStep({&fresh, 1}).front().error->code(), ErrorCode::kInvalidArgument);
}

TEST_P(EngineOn, ForcesTokensAndRanksTargets) {
  const auto prompt = RandomIds(6, kVocab, 3);
  const auto session = Open();
  const std::vector<std::int64_t> rows = {0, 1, 2, 3, 4, 5};
  const auto logits = engine_->AppendLogits(*Open(), prompt, rows);
  DecodeItem item = GreedyItem(session, prompt);
  const std::vector<std::uint32_t> targets = {5, kNoTarget, 96, kNoTarget, 0, 17};
  item.logprob_targets = targets;
  item.forced_token = 33;
  const auto result = engine_->DecodeStep({&item, 1}).front();
  ASSERT_FALSE(result.error);
  EXPECT_EQ(result.token, 33U);
  const auto check = [&](std::size_t row, std::uint32_t id, float logprob, std::uint32_t rank) {
    const std::span own = std::span(logits).subspan(row * kVocab, kVocab);
    double sum = 0;
    std::uint32_t expected_rank = 1;
    for (std::uint32_t i = 0; i < kVocab; ++i) {
      sum += std::exp(static_cast<double>(own[i]) - static_cast<double>(own[id]));
      expected_rank += own[i] > own[id] || (own[i] == own[id] && i < id) ? 1 : 0;
    }
    EXPECT_NEAR(logprob, -std::log(sum), 1e-5) << row;
    EXPECT_EQ(rank, expected_rank) << row;
  };
  check(5, 33, result.logprob, result.rank);
  for (const std::size_t row : {0, 2, 4, 5}) {
    check(row, targets[row], result.target_logprobs[row], result.target_ranks[row]);
  }
  EXPECT_TRUE(std::isnan(result.target_logprobs[1]));
  EXPECT_EQ(result.target_ranks[3], 0U);
}

TEST_P(EngineOn, DoesNotSampleWhileATurnIsAppended) {
  const auto prompt = RandomIds(9, kVocab, 3);
  const auto session = Open();
  DecodeItem item = GreedyItem(session, prompt);
  item.sample = false;
  const auto result = engine_->DecodeStep({&item, 1}).front();
  EXPECT_FALSE(result.error);
  EXPECT_FALSE(result.token);
  EXPECT_EQ(session->tokens(), 9);
}

TEST_P(EngineOn, CountsOneStepAWholeBatch) {
  const auto prompt = RandomIds(9, kVocab, 3);
  const std::vector<DecodeItem> items = {GreedyItem(Open(), prompt), GreedyItem(Open(), prompt),
                                         GreedyItem(Open(), prompt)};
  engine_->DecodeStep(items);
  EXPECT_EQ(engine_->counters().decode_steps, 1);
  EXPECT_EQ(engine_->counters().decode_tokens, 3);
}

TEST_P(EngineOn, RefusesBadItemsAlone) {
  const auto ids = RandomIds(3, kVocab, 3);
  const auto long_turn = RandomIds(257, kVocab, 3);
  const std::vector<std::uint32_t> beyond = {kVocab};
  const std::vector<std::uint32_t> one_target = {1};
  const KvGeometry other = {2, 2, 8, DType::kF32};
  std::vector<DecodeItem> items(9);
  for (DecodeItem& item : items) item = GreedyItem(Open(), ids);
  items[1].token_ids = beyond;
  items[2].token_ids = long_turn;
  items[3].forced_token = kVocab;
  items[4].logprob_targets = one_target;
  items[5].sampling.top_p = 0;
  items[6].session = DecodeSession::OpenScratch(other);
  items[7].session = items[0].session;
  const auto results = engine_->DecodeStep(items);
  EXPECT_FALSE(results[0].error);
  EXPECT_FALSE(results[8].error);
  EXPECT_EQ(results[0].token, results[8].token);
  for (std::size_t i = 1; i < 8; ++i) {
    ASSERT_TRUE(results[i].error) << i;
    EXPECT_EQ(results[i].error->code(), ErrorCode::kInvalidArgument) << i;
    EXPECT_FALSE(results[i].token) << i;
  }
  EXPECT_EQ(items[0].session->tokens(), 3);
  EXPECT_EQ(items[5].session->tokens(), 0);
}

TEST_P(EngineOn, RefusesTokensBeyondTheLastPosition) {
  const auto session = Open();
  const auto all = RandomIds(4096, kVocab, 3);
  if (std::string(GetParam()) == "reference") GTEST_SKIP() << "4,096 tokens take it too long";
  engine_->AppendLogits(*session, all, {});
  const DecodeItem item = GreedyItem(session, std::span(all).first(1));
  EXPECT_EQ(engine_->DecodeStep({&item, 1}).front().error->code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { engine_->AppendLogits(*session, std::span(all).first(1), {}); }),
            ErrorCode::kInvalidArgument);
}

TEST_P(EngineOn, ACancelledSessionStopsAlone) {
  const auto ids = RandomIds(3, kVocab, 3);
  const std::vector<DecodeItem> items = {GreedyItem(Open(), ids), GreedyItem(Open(), ids)};
  items[1].session->cancellation().Cancel();
  const auto results = engine_->DecodeStep(items);
  EXPECT_FALSE(results[0].error);
  EXPECT_EQ(results[1].error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(items[1].session->tokens(), 0);
  EXPECT_EQ(CodeOf([&] { engine_->AppendLogits(*items[1].session, ids, {}); }),
            ErrorCode::kCancelled);
}

TEST_P(EngineOn, LogitsThatAreNoNumbersFailTheirSessionAlone) {
  const TemporaryFolder folder;
  WriteModelWithNaN(folder.path(), 7);
  const auto engine = OpenEngine(folder.path(), GetParam(), DType::kF32);
  const std::vector<std::uint32_t> bad = {3, 7, 5};
  const std::vector<std::uint32_t> good = {3, 8, 5};
  const std::vector<std::uint32_t> targets = {8, 5, kNoTarget};
  std::vector<DecodeItem> items;
  for (int i = 0; i < 5; ++i) {
    const auto session = DecodeSession::OpenScratch(engine->info().geometry);
    engine->AppendLogits(*session, std::span(good).first(2), {});
    items.push_back(GreedyItem(session, i < 4 ? bad : good));
  }
  items[1].forced_token = 4;
  items[2].sample = false;
  items[2].logprob_targets = targets;
  items[3].sample = false;  // nothing is wanted of its rows
  items[4].logprob_targets = targets;
  const std::vector<float> before = items[0].session->last_hidden();
  const auto results = engine->DecodeStep(items);
  for (const std::size_t i : {0, 1, 2}) {
    ASSERT_TRUE(results[i].error) << i;
    EXPECT_EQ(results[i].error->code(), ErrorCode::kInternal) << i;
    EXPECT_FALSE(results[i].token) << i;
    EXPECT_EQ(items[i].session->tokens(), 2) << i;
    EXPECT_EQ(items[i].session->last_hidden(), before) << i;
  }
  EXPECT_FALSE(results[3].error);
  EXPECT_FALSE(results[4].error);
  EXPECT_EQ(items[4].session->tokens(), 5);
  // A session as before takes the same step without the bad token as if nothing had been.
  items[0].token_ids = good;
  const auto again = engine->DecodeStep({items.data(), 1}).front();
  ASSERT_FALSE(again.error);
  EXPECT_EQ(again.token, results[4].token);
  EXPECT_EQ(again.logprob, results[4].logprob);
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineOn, testing::Values("reference", "cpu"));

TEST(Engine, RefusesModelsWithWrongTensors) {
  const auto code_without = [](const std::string& name) {
    const TemporaryFolder folder;
    const auto writer = RandomWeights(SmallConfig(), DType::kF32);
    auto names = writer.names();
    names.erase(std::find(names.begin(), names.end(), name));
    WriteFile(folder.path() + "/config.json", SmallConfig().dump());
    WriteFile(folder.path() + "/model.safetensors", writer.Bytes(names));
    return CodeOf([&] { OpenEngine(folder.path(), "reference", DType::kF32); });
  };
  EXPECT_EQ(code_without("lm_head.weight"), ErrorCode::kModelInvalid);
  EXPECT_EQ(code_without("model.layers.1.mlp.up_proj.weight"), ErrorCode::kModelInvalid);
  const TemporaryFolder folder;
  WriteModel(folder.path(), SmallConfig());
  auto other = SmallConfig();
  other["intermediate_size"] = 88;
  WriteFile(folder.path() + "/config.json", other.dump());
  EXPECT_EQ(CodeOf([&] { OpenEngine(folder.path(), "reference", DType::kF32); }),
            ErrorCode::kModelInvalid);
}

TEST(Engine, RefusesDevicesAndLayerRangesItDoesNotHave) {
  const TemporaryFolder folder;
  WriteModel(folder.path(), SmallConfig());
  EXPECT_EQ(CodeOf([&] { OpenEngine(folder.path(), "tpu", DType::kF32); }),
            ErrorCode::kUnsupported);
  EngineOptions options{.model_directory = folder.path(), .device = "reference"};
  options.layer_begin = 1;
  EXPECT_EQ(CodeOf([&] { Engine::Open(options); }), ErrorCode::kUnsupported);
  options.layer_end = 3;
  EXPECT_EQ(CodeOf([&] { Engine::Open(options); }), ErrorCode::kInvalidArgument);
}

TEST(Engine, StopsOpeningWhenItIsInterrupted) {
  const TemporaryFolder folder;
  WriteModel(folder.path(), SmallConfig());
  CancellationFlag interrupt;
  const EngineOptions options{
      .model_directory = folder.path(), .device = "reference", .interrupt = &interrupt};
  EXPECT_TRUE(Engine::Open(options));
  interrupt.Cancel();
  EXPECT_EQ(CodeOf([&] { Engine::Open(options); }), ErrorCode::kCancelled);
}

TEST(Engine, NamesAModelByItsContent) {
  const auto fingerprint = [](const nlohmann::json& config, DType dtype) {
    const TemporaryFolder folder;
    WriteModel(folder.path(), config, dtype);
    return OpenEngine(folder.path(), "reference", DType::kF32)->info().model_fingerprint;
  };
  const std::string base = fingerprint(SmallConfig(), DType::kBF16);
  EXPECT_EQ(base, fingerprint(SmallConfig(), DType::kBF16));
  EXPECT_NE(base, fingerprint(SmallConfig(), DType::kF32));
  auto changed = SmallConfig();
  changed["rope_theta"] = 20000.0;
  EXPECT_NE(base, fingerprint(changed, DType::kBF16));
  EXPECT_EQ(base.find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace
}  // namespace longshadow

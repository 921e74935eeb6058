// The embedded model answers its longest sample after a sparse prefill.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"
#include "test/native/engine_sparse_support.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using engine_sparse_test::Sum;
using model_test::TemporaryFolder;

constexpr const char* kFolder = "models/needle";

struct Needle {
  std::vector<std::uint32_t> ids;  // of the prompt and its answer
  std::int64_t end = 0;            // of the prompt
  std::vector<std::uint32_t> answer;
};

/// The sample of 16,384 tokens: values that are handed on from name to name all over the prompt.
Needle LongestSample() {
  const auto sample = model_test::ReadJson(std::string(kFolder) + "/samples.json")[2];
  Needle needle{sample["ids"].get<std::vector<std::uint32_t>>(),
                sample["answer_positions"].front().get<std::int64_t>(),
                {}};
  for (const auto& position : sample["answer_positions"]) {
    needle.answer.push_back(needle.ids[position.get<std::size_t>()]);
  }
  return needle;
}

struct Answer {
  std::vector<std::uint32_t> tokens;                // greedy
  std::vector<float> last_hidden;                   // of the prompt
  std::vector<std::vector<std::int64_t>> attended;  // [chunks][layers]
  double density = 0;  // keys attended of those that dense attention sees
};

/// Prefills in chunks of 4096, all rows by the policy: dense rows at the end would find the answer
/// by themselves, whatever the rows before them had looked at.
Answer Ask(Engine& engine, const Needle& needle, const SparsePolicy& policy, std::int64_t end) {
  const EngineInfo& info = engine.info();
  const TemporaryFolder folder;
  const auto store = ValueStore::Open(folder.path() + "/store");
  SessionKey key;
  key.session_id = std::string(32, 'a');
  const auto session = PrefillSession::Open(store, key, info.geometry, info.config.hidden_size);
  Answer answer;
  double attended = 0;
  double causal = 0;
  while (session->tokens() < end) {
    PrefillChunkRequest request;
    request.begin = session->tokens();
    request.token_ids = std::span(needle.ids)
                            .subspan(static_cast<std::size_t>(request.begin),
                                     std::min<std::int64_t>(4096, end - request.begin));
    request.sparse = &policy;
    const auto result = engine.PrefillChunk(*session, request, {});
    attended += static_cast<double>(Sum(result.sparse.attended_keys));
    causal += static_cast<double>(Sum(result.sparse.causal_keys));
    answer.attended.push_back(result.sparse.layer_attended_keys);
  }
  answer.density = attended / causal;
  const auto decode =
      DecodeSession::Open(store, session->Seal(), key, info.geometry, info.config.hidden_size);
  answer.last_hidden = decode->last_hidden();
  if (end == needle.end) {
    answer.tokens = model_test::DecodeGreedy(engine, decode, needle.answer.size());
  }
  return answer;
}

/// The budgets, repeated in order over all heads of all layers.
SparsePolicy Policy(const EngineInfo& info, const std::vector<HeadBudget>& budgets) {
  SparsePolicy policy;
  for (std::int32_t head = 0; head < info.config.layers * info.config.query_heads; ++head) {
    policy.heads.push_back(budgets[static_cast<std::size_t>(head) % budgets.size()]);
  }
  return policy;
}

/// As many keys of a block as `tiles` tiles hold: the first 64 and the nearest ones.
HeadBudget Window(std::int64_t tiles) {
  return {HeadPattern::kAShape, kBlockTokens, (tiles - 1) * kBlockTokens, tiles};
}

TEST(SparseNeedle, FindsWhatAWindowOfAsManyTilesDoesNot) {
  const Needle needle = LongestSample();
  ASSERT_EQ(needle.ids.size(), 16384U);
  const auto engine = model_test::OpenEngine(kFolder, "cpu", DType::kBF16);
  const auto ask = [&](const HeadBudget& budget) {
    return Ask(*engine, needle, Policy(engine->info(), {budget}), needle.end);
  };
  for (const HeadBudget& budget :
       {HeadBudget{HeadPattern::kVerticalSlash, 1000, 2000, 16},
        HeadBudget{HeadPattern::kFlex, 0, 0, 64}, HeadBudget{HeadPattern::kKeyBounds, 0, 0, 24}}) {
    const Answer found = ask(budget);
    const Answer control = ask(Window(budget.tiles));
    EXPECT_EQ(found.tokens, needle.answer) << static_cast<int>(budget.pattern);
    EXPECT_NE(control.tokens, needle.answer) << budget.tiles << " tiles say nothing";
    EXPECT_LT(found.density, control.density) << "the window sees no fewer keys";
  }
}

// Heads of 64 elements: the kernels that serving runs.
TEST(SparseNeedle, HasTheSameBitsOnAnyNumberOfThreads) {
  const Needle needle = LongestSample();
  constexpr std::int64_t kEnd = 4096 + 1000;
  EngineOptions options;
  options.model_directory = kFolder;
  std::vector<Answer> answers;
  for (const int threads : {1, 2, 5}) {
    options.threads = threads;
    const auto engine = Engine::Open(options);
    const SparsePolicy policy =
        Policy(engine->info(), {{HeadPattern::kAShape, 64, 512, 0},
                                {HeadPattern::kVerticalSlash, 1000, 2000, 16},
                                {HeadPattern::kBlockSparse, 0, 0, 16},
                                {HeadPattern::kFlex, 0, 0, 16},
                                {HeadPattern::kKeyBounds, 0, 0, 16}});
    answers.push_back(Ask(*engine, needle, policy, kEnd));
    EXPECT_TRUE(answers.back().last_hidden == answers.front().last_hidden) << threads;
    EXPECT_EQ(answers.back().attended, answers.front().attended) << threads;
  }
  EXPECT_LT(answers.front().density, 0.7) << "few enough keys to be a choice";
}

}  // namespace
}  // namespace longshadow

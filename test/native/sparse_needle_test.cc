// The embedded model answers its longest sample after a sparse prefill.
#include <gtest/gtest.h>

#include <algorithm>

#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"
#include "test/native/engine_sparse_support.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using engine_sparse_test::Sum;
using model_test::TemporaryFolder;

/// Greedy answer of the embedded model to a sample whose prompt is prefilled in chunks of 4096.
/// density: keys attended of those that dense attention sees.
std::vector<std::uint32_t> NeedleAnswer(const nlohmann::json& sample, const HeadBudget& budget,
                                        double& density) {
  const auto engine = model_test::OpenEngine("models/needle", "cpu", DType::kBF16);
  const auto& info = engine->info();
  const TemporaryFolder folder;
  const auto store = ValueStore::Open(folder.path() + "/store");
  SessionKey key;
  key.session_id = std::string(32, 'a');
  SparsePolicy policy;
  policy.heads.assign(static_cast<std::size_t>(info.config.layers * info.config.query_heads),
                      budget);
  const auto session = PrefillSession::Open(store, key, info.geometry, info.config.hidden_size);
  const auto ids = sample["ids"].get<std::vector<std::uint32_t>>();
  const auto end = sample["answer_positions"].front().get<std::int64_t>();
  double attended = 0;
  double causal = 0;
  while (session->tokens() < end) {
    PrefillChunkRequest request;
    request.begin = session->tokens();
    request.token_ids = std::span(ids).subspan(static_cast<std::size_t>(request.begin),
                                               std::min<std::int64_t>(4096, end - request.begin));
    request.sparse = &policy;
    request.dense_from = std::max(request.begin, end - 128);
    const auto result = engine->PrefillChunk(*session, request, {});
    attended += static_cast<double>(Sum(result.sparse.attended_keys));
    causal += static_cast<double>(Sum(result.sparse.causal_keys));
  }
  density = attended / causal;
  const auto decode =
      DecodeSession::Open(store, session->Seal(), key, info.geometry, info.config.hidden_size);
  return model_test::DecodeGreedy(*engine, decode, sample["answer_positions"].size());
}

TEST(SparseNeedle, AnswersItsSampleOfSixteenThousandTokens) {
  const auto sample = model_test::ReadJson("models/needle/samples.json")[2];
  const auto ids = sample["ids"].get<std::vector<std::uint32_t>>();
  ASSERT_EQ(ids.size(), 16384U);
  std::vector<std::uint32_t> answer;
  for (const auto& position : sample["answer_positions"]) {
    answer.push_back(ids[position.get<std::size_t>()]);
  }
  for (const HeadBudget& budget : {HeadBudget{HeadPattern::kVerticalSlash, 1000, 2000, 64},
                                   HeadBudget{HeadPattern::kFlex, 0, 0, 64}}) {
    double density = 1;
    EXPECT_EQ(NeedleAnswer(sample, budget, density), answer) << static_cast<int>(budget.pattern);
    EXPECT_LT(density, 0.9) << "few enough keys to mean something";
  }
}

}  // namespace
}  // namespace longshadow

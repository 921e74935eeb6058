// Prompt chunks whose rows attend to chosen keys.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "longshadow/session_kv.h"
#include "longshadow/sparse_selection.h"
#include "longshadow/value_store.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using model_test::CodeOf;
using model_test::RandomIds;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteModel;

constexpr std::uint32_t kVocab = 97;
constexpr std::int32_t kHidden = 48;
constexpr std::int32_t kHeads = 4;
constexpr std::int64_t kTokens = 1219;  // the last query block has 3 rows
const std::vector<std::int64_t> kEnds = {512, 1024, kTokens};

/// More than there are.
constexpr std::int64_t kAll = 1 << 20;
constexpr HeadBudget kDenseHead{};
constexpr HeadBudget kWideShape{HeadPattern::kAShape, 0, kAll, 0};
constexpr HeadBudget kAllLines{HeadPattern::kVerticalSlash, kAll, kAll, 0};
constexpr HeadBudget kAllBlocks{HeadPattern::kBlockSparse, 0, 0, kAll};
constexpr HeadBudget kAllByMass{HeadPattern::kFlex, 0, 0, 0};
constexpr HeadBudget kNarrowShape{HeadPattern::kAShape, 8, 64, 0};
constexpr HeadBudget kFewLines{HeadPattern::kVerticalSlash, 40, 120, 4};
constexpr HeadBudget kFewBlocks{HeadPattern::kBlockSparse, 0, 0, 3};
constexpr HeadBudget kFewByMass{HeadPattern::kFlex, 0, 0, 4};

struct Case {
  std::string device;
  DType dtype;
};

void PrintTo(const Case& test_case, std::ostream* out) {
  *out << test_case.device << (test_case.dtype == DType::kF32 ? " fp32" : " bf16");
}

/// What a prompt's chunks gave.
struct Outcome {
  std::vector<float> logprobs;  // of every token from position 1 on
  std::vector<std::uint32_t> ranks;
  std::vector<float> last_hidden;
  std::vector<SparseStats> stats;  // by chunk
  std::vector<std::int64_t> attention_micros;
  std::vector<std::int64_t> engine_micros;

  bool SameBits(const Outcome& other) const {
    return logprobs == other.logprobs && ranks == other.ranks && last_hidden == other.last_hidden;
  }
};

/// The n heads of a budget, repeated in order.
SparsePolicy Policy(const std::vector<HeadBudget>& budgets, std::int32_t layers = 2) {
  SparsePolicy policy;
  for (std::int32_t i = 0; i < layers * kHeads; ++i) {
    policy.heads.push_back(budgets[static_cast<std::size_t>(i) % budgets.size()]);
  }
  return policy;
}

SparsePolicy Tiny(std::int32_t layers = 2) {
  return Policy({kNarrowShape, kFewLines, kFewBlocks, kFewByMass}, layers);
}

class EngineSparse : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { Open(2, 2); }

  void Open(int layers, int threads) {
    nlohmann::json config = SmallConfig();
    config["num_hidden_layers"] = layers;
    WriteModel(folder_.path(), config);
    EngineOptions options;
    options.model_directory = folder_.path();
    options.device = GetParam().device;
    options.dtype = GetParam().dtype;
    options.threads = threads;
    engine_ = Engine::Open(options);
    store_ = ValueStore::Open(folder_.path() + "/store");
    ids_ = RandomIds(kTokens + 1, kVocab, 8);
  }

  std::shared_ptr<PrefillSession> NewSession() {
    ++sessions_;
    const std::string number = std::to_string(sessions_);
    key_.session_id = std::string(32 - number.size(), 'a') + number;
    return PrefillSession::Open(store_, key_, engine_->info().geometry, kHidden);
  }

  PrefillChunkResult Chunk(PrefillSession& session, std::int64_t end, const SparsePolicy* policy,
                           std::int64_t dense_from = INT64_MAX,
                           const ProgressCallback& progress = {}) {
    const std::int64_t begin = session.tokens();
    std::vector<std::int64_t> positions(static_cast<std::size_t>(end - begin));
    std::iota(positions.begin(), positions.end(), begin + 1);
    PrefillChunkRequest request;
    request.token_ids = std::span(ids_).subspan(begin, end - begin);
    request.begin = begin;
    request.next_token_id = ids_[static_cast<std::size_t>(end)];
    request.logprob_positions = positions;
    request.sparse = policy;
    request.dense_from = std::max(dense_from, begin);
    return engine_->PrefillChunk(session, request, progress);
  }

  Outcome Run(const SparsePolicy* policy, const std::vector<std::int64_t>& ends = kEnds,
              std::int64_t dense_from = INT64_MAX) {
    Outcome outcome;
    const auto session = NewSession();
    for (const std::int64_t end : ends) {
      const auto result = Chunk(*session, end, policy, dense_from);
      outcome.logprobs.insert(outcome.logprobs.end(), result.logprobs.begin(),
                              result.logprobs.end());
      outcome.ranks.insert(outcome.ranks.end(), result.ranks.begin(), result.ranks.end());
      outcome.stats.push_back(result.sparse);
      outcome.attention_micros.push_back(result.attention_micros);
      outcome.engine_micros.push_back(result.engine_micros);
    }
    outcome.last_hidden =
        DecodeSession::Open(store_, session->Seal(), key_, engine_->info().geometry, kHidden)
            ->last_hidden();
    return outcome;
  }

  /// Between sparse and dense attention over the same keys: sums of at most kTokens terms in
  /// another order, each within kTokens u of exact, or bf16's rounding of probabilities and of
  /// what is stored, through two layers to logits that are some ten times the residual's scale.
  float Tolerance() const {
    return GetParam().dtype == DType::kF32 ? 0x1p-24F * kTokens * 8 : 0x1p-8F * 8 * 8;
  }

  TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  std::vector<std::uint32_t> ids_;
  int sessions_ = 0;
};

std::int64_t Sum(const std::int64_t (&keys)[kHeadPatterns]) {
  return std::accumulate(std::begin(keys), std::end(keys), std::int64_t{0});
}

float Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float farthest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float distance = std::abs(a[i] - b[i]);
    if (!(distance <= farthest)) farthest = distance;  // NaN stays
  }
  return farthest;
}

TEST_P(EngineSparse, EqualsDenseWhenEveryKeyIsChosen) {
  const Outcome dense = Run(nullptr);
  for (const HeadBudget& budget : {kWideShape, kAllLines, kAllBlocks, kAllByMass}) {
    SparsePolicy policy = Policy({budget});
    policy.flex.min_tiles = kAll;
    const Outcome sparse = Run(&policy);
    EXPECT_LE(Farthest(sparse.logprobs, dense.logprobs), Tolerance())
        << static_cast<int>(budget.pattern);
    for (const SparseStats& stats : sparse.stats) {
      EXPECT_GT(Sum(stats.causal_keys), 0);
      EXPECT_EQ(Sum(stats.attended_keys), Sum(stats.causal_keys));
    }
  }
  // The tolerance tells sparse from dense: a few keys are another answer.
  const SparsePolicy few = Policy({kNarrowShape});
  EXPECT_GT(Farthest(Run(&few).logprobs, dense.logprobs), Tolerance());
}

TEST_P(EngineSparse, ChunksThatEndWithinTheThresholdAreDenseToTheBit) {
  const Outcome dense = Run(nullptr);
  SparsePolicy policy = Tiny();
  policy.dense_below_tokens = kTokens;
  const Outcome below = Run(&policy);
  EXPECT_TRUE(below.SameBits(dense));
  EXPECT_EQ(Sum(below.stats.back().causal_keys), 0);
  EXPECT_EQ(below.stats.back().estimate_micros, 0);
  policy.dense_below_tokens = kTokens - 1;
  const Outcome above = Run(&policy);
  EXPECT_EQ(Sum(above.stats[1].causal_keys), 0) << "the second chunk ends within it";
  EXPECT_GT(Sum(above.stats[2].causal_keys), 0);
  EXPECT_FALSE(above.SameBits(dense));
  EXPECT_TRUE(
      std::equal(dense.logprobs.begin(), dense.logprobs.begin() + 1024, above.logprobs.begin()));
}

TEST_P(EngineSparse, LayersWithoutAChoiceAreDenseToTheBit) {
  const SparsePolicy policy = Policy({kDenseHead});
  const Outcome outcome = Run(&policy);
  EXPECT_TRUE(outcome.SameBits(Run(nullptr)));
  EXPECT_EQ(Sum(outcome.stats.back().causal_keys), 0);
}

// With one layer K and V are those of a dense run, whatever the queries before attended to.
TEST_P(EngineSparse, TheLastRowsOfAPromptAreDenseToTheBit) {
  Open(1, 2);
  const Outcome dense = Run(nullptr);
  const SparsePolicy policy = Tiny(1);
  const std::int64_t dense_from = kTokens - 128;
  const std::int64_t rounded = dense_from / kBlockTokens * kBlockTokens;
  ASSERT_LT(rounded, dense_from);
  const Outcome sparse = Run(&policy, kEnds, dense_from);
  for (std::int64_t row = rounded; row < kTokens; ++row) {
    EXPECT_EQ(sparse.logprobs[row], dense.logprobs[row]) << row;
  }
  EXPECT_EQ(sparse.last_hidden, dense.last_hidden);
  std::int64_t others = 0;
  for (std::int64_t row = rounded - 64; row < rounded; ++row) {
    others += sparse.logprobs[row] != dense.logprobs[row] ? 1 : 0;
  }
  EXPECT_GT(others, 32) << "rows before it are sparse";
}

TEST_P(EngineSparse, AChunkOfAFewRowsAndTheFewRowsAfterTheLastWholeBlockAreDense) {
  Open(1, 2);
  const SparsePolicy policy = Tiny(1);
  const std::vector<std::int64_t> ends = {512, 1024, 1027};
  const Outcome dense = Run(nullptr, ends);
  const Outcome sparse = Run(&policy, ends);
  EXPECT_EQ(Sum(sparse.stats[2].causal_keys), 0);
  for (std::int64_t row = 1024; row < 1027; ++row) {
    EXPECT_EQ(sparse.logprobs[row], dense.logprobs[row]) << row;
  }
  const std::vector<std::int64_t> longer = {512, 1024 + 3};
  const Outcome together = Run(&policy, longer);
  const Outcome whole = Run(nullptr, longer);
  for (std::int64_t row = 1024; row < 1027; ++row) {
    EXPECT_NEAR(together.logprobs[row], whole.logprobs[row], Tolerance()) << row;
  }
  EXPECT_NE(together.logprobs[1023], whole.logprobs[1023]);
}

/// Keys of dense attention of one head over rows [begin, end), by query block.
std::int64_t CausalKeys(std::int64_t begin, std::int64_t end) {
  std::int64_t keys = 0;
  for (std::int64_t block = begin; block < end; block += kBlockTokens) {
    keys += std::min(block + kBlockTokens, end);
  }
  return keys;
}

/// Keys that an A-shape head attends to in rows [begin, end), by query block.
std::int64_t ShapeKeys(const HeadBudget& budget, std::int64_t begin, std::int64_t end) {
  const HeadSelection head = AShapeSelection(budget, end);
  std::int64_t keys = 0;
  for (std::int64_t block = begin; block < end; block += kBlockTokens) {
    std::vector<KeyRange> ranges;
    std::vector<std::uint32_t> columns;
    LinesToKeys(head, block, std::min(kBlockTokens, end - block), ranges, columns);
    keys += static_cast<std::int64_t>(columns.size());
    for (const KeyRange& range : ranges) keys += range.end - range.begin;
  }
  return keys;
}

TEST_P(EngineSparse, CountsKeysByPatternAndTimesByStep) {
  const SparsePolicy policy = Policy({kDenseHead, kNarrowShape, kFewLines, kFewBlocks});
  const Outcome outcome = Run(&policy, {512, 1200}, 1200 - 128);
  const SparseStats& stats = outcome.stats[1];
  const std::int64_t sparse_end = (1200 - 128) / kBlockTokens * kBlockTokens;
  const std::int64_t causal = 2 * CausalKeys(512, sparse_end);  // two layers
  const auto of = [](const std::int64_t(&keys)[kHeadPatterns], HeadPattern pattern) {
    return keys[static_cast<std::size_t>(pattern)];
  };
  for (const HeadPattern pattern : {HeadPattern::kDense, HeadPattern::kAShape,
                                    HeadPattern::kVerticalSlash, HeadPattern::kBlockSparse}) {
    EXPECT_EQ(of(stats.causal_keys, pattern), causal) << static_cast<int>(pattern);
    EXPECT_GT(of(stats.attended_keys, pattern), 0);
  }
  EXPECT_EQ(of(stats.causal_keys, HeadPattern::kFlex), 0);
  EXPECT_EQ(of(stats.attended_keys, HeadPattern::kFlex), 0);
  EXPECT_EQ(of(stats.attended_keys, HeadPattern::kDense), causal);
  EXPECT_EQ(of(stats.attended_keys, HeadPattern::kAShape),
            2 * ShapeKeys(kNarrowShape, 512, sparse_end));
  const std::int64_t blocks = (sparse_end - 512) / kBlockTokens;
  EXPECT_EQ(of(stats.attended_keys, HeadPattern::kBlockSparse),
            2 * blocks * kFewBlocks.tiles * kBlockTokens);
  EXPECT_LT(of(stats.attended_keys, HeadPattern::kVerticalSlash), causal);
  EXPECT_GT(stats.estimate_micros, 0);
  EXPECT_GT(stats.attention_micros, 0);
  EXPECT_LE(stats.estimate_micros + stats.index_micros + stats.attention_micros,
            outcome.attention_micros[1]);
  EXPECT_LE(outcome.attention_micros[1], outcome.engine_micros[1]);
}

TEST_P(EngineSparse, TheGuardMeasuresTheErrorAndLeavesEveryBit) {
  SparsePolicy policy = Tiny();
  const Outcome without = Run(&policy);
  EXPECT_EQ(without.stats[2].guard_blocks, 0);
  policy.guard_interval = 1;
  const Outcome with = Run(&policy);
  EXPECT_TRUE(with.SameBits(without));
  for (std::size_t chunk = 0; chunk < kEnds.size(); ++chunk) {
    EXPECT_EQ(Sum(with.stats[chunk].attended_keys), Sum(without.stats[chunk].attended_keys));
    EXPECT_EQ(with.stats[chunk].guard_blocks, 2) << "one a layer";
    EXPECT_LE(with.stats[chunk].guard_error_max, with.stats[chunk].guard_error_sum);
    EXPECT_LE(with.stats[chunk].guard_error_sum, 2 * with.stats[chunk].guard_error_max);
  }
  EXPECT_GT(with.stats[2].guard_error_max, 0.1) << "a tenth of the keys of flat attention";

  SparsePolicy full = Policy({kAllLines});
  full.guard_interval = 1;
  for (const SparseStats& stats : Run(&full).stats) {
    EXPECT_EQ(stats.guard_blocks, 2);
    EXPECT_LE(stats.guard_error_max, Tolerance());
  }
}

TEST_P(EngineSparse, ReportsProgressToTheEnd) {
  for (const SparsePolicy& policy : {Tiny(), Policy({kAllLines})}) {
    const auto session = NewSession();
    std::vector<double> shares;
    Chunk(*session, kTokens, &policy, kTokens - 128,
          [&](double share) { shares.push_back(share); });
    EXPECT_GE(shares.size(), 6U) << "three row blocks in each of two layers";
    EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
    EXPECT_GT(shares.front(), 0);
    EXPECT_LT(shares[shares.size() - 2], 1);
    EXPECT_NEAR(shares.back(), 1, 1e-9);
    EXPECT_LE(shares.back(), 1);
  }
}

TEST_P(EngineSparse, ACancelledChunkLeavesNothingAndRunsAgainToTheSameBits) {
  const SparsePolicy policy = Tiny();
  constexpr std::int64_t kEnd = 579;  // two row blocks
  const auto undisturbed = NewSession();
  std::size_t reports = 0;
  const auto expected = Chunk(*undisturbed, kEnd, &policy, INT64_MAX, [&](double) { ++reports; });
  ASSERT_EQ(reports, 10U) << "two sweeps over two blocks, and the choice, in each of two layers";
  for (std::size_t last = 1; last < reports; ++last) {
    auto session = NewSession();
    std::size_t calls = 0;
    const auto cancel = [&](double) {
      if (++calls == last) session->cancellation().Cancel();
    };
    EXPECT_EQ(CodeOf([&] { Chunk(*session, kEnd, &policy, INT64_MAX, cancel); }),
              ErrorCode::kCancelled);
    EXPECT_EQ(calls, last) << "no more work after the cancel";
    EXPECT_EQ(session->tokens(), 0);
  }
  const auto again = Chunk(*NewSession(), kEnd, &policy);
  EXPECT_EQ(again.logprobs, expected.logprobs);
  EXPECT_EQ(Sum(again.sparse.attended_keys), Sum(expected.sparse.attended_keys));
}

TEST_P(EngineSparse, BitsDoNotDependOnThreads) {
  const SparsePolicy policy = Tiny();
  const Outcome two = Run(&policy, {1024});
  for (const int threads : {1, 3}) {
    Open(2, threads);
    EXPECT_TRUE(Run(&policy, {1024}).SameBits(two)) << threads;
  }
}

TEST_P(EngineSparse, RefusesPoliciesThatAreNotThisModels) {
  const auto session = NewSession();
  const auto refused = [&](const SparsePolicy& policy, const std::string& word) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { Chunk(*session, 512, &policy); }, &message),
              ErrorCode::kInvalidArgument);
    EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  refused(Tiny(1), "2 layers x 4 query heads");
  refused(Tiny(3), "2 layers x 4 query heads");
  refused({}, "2 layers x 4 query heads");
  SparsePolicy policy = Tiny();
  policy.heads[5].columns = -1;
  refused(policy, "layer 1");
  policy = Tiny();
  policy.dense_below_tokens = -1;
  refused(policy, "dense_below_tokens");
  policy = Tiny();
  policy.guard_interval = -1;
  refused(policy, "guard_interval");
  for (const float gamma : {0.0F, -1.0F, 1.5F, std::nanf("")}) {
    policy = Tiny();
    policy.flex.gamma = gamma;
    refused(policy, "gamma");
  }
  for (const float tau : {-0.1F, std::nanf(""), INFINITY}) {
    policy = Tiny();
    policy.flex.tau = tau;
    refused(policy, "tau");
  }
  policy = Tiny();
  policy.flex.min_tiles = -1;
  refused(policy, "min_tiles");
  EXPECT_EQ(session->tokens(), 0);
}

TEST_P(EngineSparse, RefusesDenseRowsFromBeforeTheChunkOn) {
  const auto session = NewSession();
  Chunk(*session, 512, nullptr);
  PrefillChunkRequest request;
  request.token_ids = std::span(ids_).subspan(512, 100);
  request.begin = 512;
  request.dense_from = 511;
  EXPECT_EQ(CodeOf([&] { engine_->PrefillChunk(*session, request, {}); }),
            ErrorCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineSparse,
                         testing::Values(Case{"reference", DType::kF32}, Case{"cpu", DType::kF32},
                                         Case{"cpu", DType::kBF16}));

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

#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"
#include "test/native/model_test_support.h"

/// A small random model whose prompt chunks attend to chosen keys.
namespace longshadow::engine_sparse_test {

inline constexpr std::uint32_t kVocab = 97;
inline constexpr std::int32_t kHidden = 48;
inline constexpr std::int32_t kHeads = 4;
inline constexpr std::int64_t kTokens = 1219;  // the last query block has 3 rows
inline const std::vector<std::int64_t> kEnds = {512, 1024, kTokens};

/// More than there are.
inline constexpr std::int64_t kAll = 1 << 20;
inline constexpr HeadBudget kDenseHead{};
inline constexpr HeadBudget kWideShape{HeadPattern::kAShape, 0, kAll, 0};
inline constexpr HeadBudget kAllLines{HeadPattern::kVerticalSlash, kAll, kAll, 0};
inline constexpr HeadBudget kAllBlocks{HeadPattern::kBlockSparse, 0, 0, kAll};
inline constexpr HeadBudget kAllByBounds{HeadPattern::kKeyBounds, 0, 0, kAll};
inline constexpr HeadBudget kAllByMass{HeadPattern::kFlex, 0, 0, 0};
/// All but the first keys, which the last rows alone would see.
inline constexpr HeadBudget kNearlyAll{HeadPattern::kAShape, 0, kTokens - 128, 0};
inline constexpr HeadBudget kNarrowShape{HeadPattern::kAShape, 8, 64, 0};
inline constexpr HeadBudget kFewLines{HeadPattern::kVerticalSlash, 40, 120, 4};
inline constexpr HeadBudget kFewBlocks{HeadPattern::kBlockSparse, 0, 0, 3};
inline constexpr HeadBudget kFewByBounds{HeadPattern::kKeyBounds, 0, 0, 3};
inline constexpr HeadBudget kFewByMass{HeadPattern::kFlex, 0, 0, 4};

struct Case {
  std::string device;
  DType dtype;
};

inline void PrintTo(const Case& test_case, std::ostream* out) {
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
inline SparsePolicy Policy(const std::vector<HeadBudget>& budgets, std::int32_t layers = 2) {
  SparsePolicy policy;
  for (std::int32_t i = 0; i < layers * kHeads; ++i) {
    policy.heads.push_back(budgets[static_cast<std::size_t>(i) % budgets.size()]);
  }
  return policy;
}

inline SparsePolicy Tiny(std::int32_t layers = 2) {
  return Policy({kNarrowShape, kFewLines, kFewBlocks, kFewByMass}, layers);
}

class EngineSparse : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { Open(2, 2); }

  void Open(int layers, int threads) {
    nlohmann::json config = model_test::SmallConfig();
    config["num_hidden_layers"] = layers;
    model_test::WriteModel(folder_.path(), config);
    EngineOptions options;
    options.model_directory = folder_.path();
    options.device = GetParam().device;
    options.dtype = GetParam().dtype;
    options.threads = threads;
    engine_ = Engine::Open(options);
    store_ = ValueStore::Open(folder_.path() + "/store");
    ids_ = model_test::RandomIds(kTokens + 1, kVocab, 8);
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

  /// Most that a log-probability differs by between sparse and dense attention over the same keys.
  /// fp32: sums of at most kTokens terms in another order, each within kTokens u of exact, times 8
  /// on the way to logits. bf16: of each run 15 roundings may fall otherwise (7 a layer:
  /// probabilities, output, normed, activated, and the next layer's q, k and v; the final norm),
  /// each with a deviation of u / sqrt(3) of the logits', which is about 1; 6 deviations of their
  /// sum.
  float Tolerance() const {
    return GetParam().dtype == DType::kF32 ? 0x1p-24F * kTokens * 8
                                           : 6 * 0x1p-8F * std::sqrt(2 * 15 / 3.0F);
  }

  /// Most relative error of a block's attention output where the same keys are summed in another
  /// order. fp32: as Tolerance. bf16: a probability, the sum of probabilities and the output are
  /// rounded in each run, each with a deviation of u / sqrt(3) of the output's; 3 deviations of
  /// their sum, though a block's mean over more than a thousand elements is hardly off by one.
  double GuardTolerance() const {
    return GetParam().dtype == DType::kF32 ? 0x1p-24 * kTokens * 8
                                           : 3 * 0x1p-8 * std::sqrt(2 * 3 / 3.0);
  }

  model_test::TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  std::vector<std::uint32_t> ids_;
  int sessions_ = 0;
};

inline std::int64_t Sum(std::span<const std::int64_t> keys) {
  return std::accumulate(keys.begin(), keys.end(), std::int64_t{0});
}

/// Of heads that choose keys, in rows that do.
inline std::int64_t SumOfSparse(const std::int64_t (&keys)[kHeadPatterns]) {
  return Sum(std::span(keys).subspan(1));
}

/// Keys of dense attention of one head over rows [begin, end), by query block.
inline std::int64_t CausalKeys(std::int64_t begin, std::int64_t end) {
  std::int64_t keys = 0;
  for (std::int64_t block = begin; block < end; block += kBlockTokens) {
    keys += std::min(block + kBlockTokens, end);
  }
  return keys;
}

}  // namespace longshadow::engine_sparse_test

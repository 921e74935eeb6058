// Candidate patterns tried beside dense chunks.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "longshadow/session_kv.h"
#include "longshadow/sparse_selection.h"
#include "longshadow/value_store.h"
#include "test/native/engine_sparse_support.h"
#include "test/native/model_test_support.h"

namespace longshadow {
namespace {

using engine_sparse_test::Case;
using engine_sparse_test::CausalKeys;
using engine_sparse_test::kAll;
using engine_sparse_test::kHeads;
using engine_sparse_test::kHidden;
using model_test::CodeOf;
using model_test::OpenEngine;
using model_test::RandomIds;
using model_test::SmallConfig;
using model_test::TemporaryFolder;
using model_test::WriteModel;

constexpr std::int32_t kLayers = 2;
constexpr std::int64_t kTokens = 1024;

const std::vector<HeadBudget> kFull = {{HeadPattern::kDense, 0, 0, 0},
                                       {HeadPattern::kAShape, 0, kAll, 0},
                                       {HeadPattern::kVerticalSlash, kAll, kAll, 0},
                                       {HeadPattern::kBlockSparse, 0, 0, kAll},
                                       {HeadPattern::kKeyBounds, 0, 0, kAll}};
const std::vector<HeadBudget> kTiny = {{HeadPattern::kAShape, 8, 64, 0},
                                       {HeadPattern::kVerticalSlash, 40, 120, 4},
                                       {HeadPattern::kBlockSparse, 0, 0, 3}};

class PatternTrials : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    WriteModel(folder_.path(), SmallConfig());
    engine_ = OpenEngine(folder_.path(), GetParam().device, GetParam().dtype);
    store_ = ValueStore::Open(folder_.path() + "/store");
  }

  std::shared_ptr<PrefillSession> NewSession() {
    ++sessions_;
    const std::string number = std::to_string(sessions_);
    key_.session_id = std::string(32 - number.size(), 'a') + number;
    return PrefillSession::Open(store_, key_, engine_->info().geometry, kHidden);
  }

  /// The next chunk of a session.
  PrefillChunkRequest Request(const PrefillSession& session, std::int64_t end) const {
    PrefillChunkRequest request;
    request.begin = session.tokens();
    request.token_ids = std::span(ids_).subspan(static_cast<std::size_t>(request.begin),
                                                static_cast<std::size_t>(end - request.begin));
    return request;
  }

  PatternTrialResult Try(PrefillSession& session, std::int64_t end,
                         const std::vector<HeadBudget>& candidates,
                         std::int64_t dense_from = INT64_MAX,
                         std::optional<TriedHead> shown = std::nullopt) {
    PrefillChunkRequest request = Request(session, end);
    request.dense_from = dense_from;
    return engine_->TryPatterns(session, request, {candidates, {}, shown}, {});
  }

  /// Every byte of K and V of whole pages, and the last hidden row.
  std::pair<std::string, std::vector<float>> Kept(PrefillSession& session) {
    const auto decode =
        DecodeSession::Open(store_, session.Seal(), key_, engine_->info().geometry, kHidden);
    const std::int64_t pages = decode->tokens() / kPageTokens;
    const KvPages all = decode->Extend(1);
    const auto bytes = static_cast<std::size_t>(engine_->info().geometry.PageBytes());
    std::string kept;
    for (std::size_t page = 0; page < static_cast<std::size_t>(pages); ++page) {
      kept.append(reinterpret_cast<const char*>(all.k[page]), bytes);
      kept.append(reinterpret_cast<const char*>(all.v[page]), bytes);
    }
    return {kept, decode->last_hidden()};
  }

  double Error(const PatternTrialResult& result, std::size_t place) const {
    return result.errors[place] / static_cast<double>(result.rows);
  }

  /// Most mean relative error of a row's output where the same keys are summed in another order.
  /// fp32: each sum of kTokens terms within kTokens u of exact, with room for outputs that are
  /// smaller than their terms. bf16: a probability, the sum of probabilities and the output are
  /// rounded in each run, each with a deviation of u / sqrt(3) of the output's; 3 deviations of
  /// their sum, though a mean over hundreds of rows is hardly off by one.
  double Tolerance() const {
    return GetParam().dtype == DType::kF32 ? 0x1p-24 * kTokens * 8
                                           : 3 * 0x1p-8 * std::sqrt(2 * 3 / 3.0);
  }

  TemporaryFolder folder_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  std::vector<std::uint32_t> ids_ = RandomIds(kTokens, 97, std::random_device{}());
  int sessions_ = 0;
};

/// What no backend has a part in.
class PatternTrialRules : public PatternTrials {};

TEST_P(PatternTrials, FindNoErrorWhereEveryKeyIsChosen) {
  const auto session = NewSession();
  for (const std::int64_t end : {std::int64_t{512}, kTokens}) {
    const std::int64_t begin = session->tokens();
    const PatternTrialResult result = Try(*session, end, kFull);
    EXPECT_EQ(result.rows, end - begin);
    ASSERT_EQ(result.errors.size(), kLayers * kHeads * kFull.size());
    ASSERT_EQ(result.attended_keys.size(), result.errors.size());
    for (std::size_t place = 0; place < result.errors.size(); ++place) {
      EXPECT_LE(Error(result, place), Tolerance()) << place;
      EXPECT_EQ(result.attended_keys[place], CausalKeys(begin, end)) << place;
    }
  }
}

TEST_P(PatternTrials, FindErrorsWhereFewKeysAreChosen) {
  const auto session = NewSession();
  const PatternTrialResult result = Try(*session, kTokens, kTiny);
  for (std::size_t place = 0; place < result.errors.size(); ++place) {
    EXPECT_GT(Error(result, place), 8 * Tolerance())
        << place << ": a fifth of flat attention's keys";
    EXPECT_LT(Error(result, place), 10) << place;
    EXPECT_GT(result.attended_keys[place], 0);
    EXPECT_LT(result.attended_keys[place], CausalKeys(0, kTokens)) << place;
  }
}

TEST_P(PatternTrialRules, TryEachCandidateByItself) {
  const PatternTrialResult together = Try(*NewSession(), kTokens, kTiny);
  for (std::size_t candidate = 0; candidate < kTiny.size(); ++candidate) {
    const PatternTrialResult alone = Try(*NewSession(), kTokens, {kTiny[candidate]});
    for (std::size_t head = 0; head < kLayers * kHeads; ++head) {
      const std::size_t place = head * kTiny.size() + candidate;
      EXPECT_EQ(alone.errors[head], together.errors[place]) << place;
      EXPECT_EQ(alone.attended_keys[head], together.attended_keys[place]) << place;
    }
  }
}

TEST_P(PatternTrials, LeaveTheChunkDenseToTheBit) {
  const auto dense = NewSession();
  for (const std::int64_t end : {std::int64_t{512}, kTokens}) {
    engine_->PrefillChunk(*dense, Request(*dense, end), {});
  }
  const auto kept = Kept(*dense);
  const auto tried = NewSession();
  for (const std::int64_t end : {std::int64_t{512}, kTokens}) Try(*tried, end, kTiny);
  EXPECT_EQ(tried->segments().size(), 2U);
  const auto same = Kept(*tried);
  EXPECT_TRUE(same.first == kept.first) << "K and V";
  EXPECT_EQ(same.second, kept.second);
}

TEST_P(PatternTrialRules, CompareNoRowsThatAreDenseInServing) {
  const PatternTrialResult rounded = Try(*NewSession(), 1000, kFull, 1000 - 128);
  EXPECT_EQ(rounded.rows, 832) << "the last multiple of 64 before row 872";
  EXPECT_EQ(rounded.attended_keys[0], CausalKeys(0, 832));
  const PatternTrialResult few = Try(*NewSession(), 963, kFull);
  EXPECT_EQ(few.rows, 960) << "3 rows after the last whole block";
  const PatternTrialResult none = Try(*NewSession(), 128, kFull, 0);
  EXPECT_EQ(none.rows, 0);
  EXPECT_EQ(std::accumulate(none.errors.begin(), none.errors.end(), 0.0), 0);
  EXPECT_EQ(std::accumulate(none.attended_keys.begin(), none.attended_keys.end(), 0), 0);
}

TEST_P(PatternTrialRules, ShowTheKeysOfOneHead) {
  for (std::int64_t candidate = 0; candidate < 3; ++candidate) {
    const auto session = NewSession();
    const TriedHead shown{1, 2, candidate};
    Try(*session, 512, kTiny);
    const PatternTrialResult result = Try(*session, 1000, kTiny, 936, shown);
    const SparseIndex& index = result.shown;
    ASSERT_EQ(index.position, 512);
    ASSERT_EQ(index.rows, 384);
    ASSERT_EQ(index.blocks, 6);
    ASSERT_EQ(index.range_offsets.size(), 7U);
    ASSERT_EQ(index.column_offsets.size(), 7U);
    EXPECT_EQ(index.range_offsets.back(), static_cast<std::int64_t>(index.ranges.size()));
    EXPECT_EQ(index.column_offsets.back(), static_cast<std::int64_t>(index.columns.size()));
    std::int64_t keys = static_cast<std::int64_t>(index.columns.size());
    for (const KeyRange& range : index.ranges) keys += range.end - range.begin;
    const std::size_t head = 1 * kHeads + 2;
    EXPECT_EQ(keys, result.attended_keys[head * kTiny.size() + static_cast<std::size_t>(candidate)])
        << candidate;
    for (std::size_t block = 0; block < 6; ++block) {
      const KeyRange last =
          index.ranges[static_cast<std::size_t>(index.range_offsets[block + 1]) - 1];
      EXPECT_EQ(last.end, 512 + 64 * (block + 1)) << "each block sees itself";
    }
  }
  EXPECT_TRUE(Try(*NewSession(), 512, kTiny).shown.range_offsets.empty());
}

TEST_P(PatternTrialRules, RefuseWhatCannotBeTried) {
  const auto session = NewSession();
  const auto refused = [&](const PrefillChunkRequest& request, const PatternTrialRequest& trial) {
    std::string message;
    EXPECT_EQ(CodeOf([&] { engine_->TryPatterns(*session, request, trial, {}); }, &message),
              ErrorCode::kInvalidArgument);
    EXPECT_EQ(session->tokens(), 0);
    return message;
  };
  const PrefillChunkRequest request = Request(*session, 512);
  EXPECT_EQ(refused(request, {}), "there is no candidate to try");
  const std::vector<HeadBudget> negative = {{HeadPattern::kVerticalSlash, -1, 0, 0}};
  EXPECT_NE(refused(request, {negative, {}, {}}).find("columns"), std::string::npos);
  for (const TriedHead absent :
       {TriedHead{2, 0, 0}, TriedHead{0, 4, 0}, TriedHead{0, 0, 3}, TriedHead{-1, 0, 0}}) {
    EXPECT_NE(
        refused(request, {kTiny, {}, absent}).find("2 layers, 4 query heads and 3 candidates"),
        std::string::npos);
  }
  const std::int64_t position = 1;
  PrefillChunkRequest scored = request;
  scored.logprob_positions = {&position, 1};
  EXPECT_NE(refused(scored, {kTiny, {}, {}}).find("no log-probabilities"), std::string::npos);
  const SparsePolicy policy{.heads = std::vector<HeadBudget>(kLayers * kHeads)};
  PrefillChunkRequest sparse = request;
  sparse.sparse = &policy;
  EXPECT_NE(refused(sparse, {kTiny, {}, {}}).find("dense"), std::string::npos);
  PrefillChunkRequest late = request;
  late.begin = 512;
  EXPECT_NE(refused(late, {kTiny, {}, {}}).find("the session has 0 tokens"), std::string::npos);
  Try(*session, 512, kTiny);
  EXPECT_EQ(session->tokens(), 512);
}

TEST_P(PatternTrialRules, EndWhenTheyAreCancelled) {
  const auto session = NewSession();
  EXPECT_EQ(CodeOf([&] {
              engine_->TryPatterns(*session, Request(*session, kTokens), {kTiny, {}, {}},
                                   [&](double) { session->cancellation().Cancel(); });
            }),
            ErrorCode::kCancelled);
  EXPECT_EQ(session->tokens(), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, PatternTrials,
                         testing::Values(Case{"reference", DType::kF32}, Case{"cpu", DType::kF32},
                                         Case{"cpu", DType::kBF16}));
INSTANTIATE_TEST_SUITE_P(Devices, PatternTrialRules,
                         testing::Values(Case{"cpu", DType::kF32}, Case{"cpu", DType::kBF16}));

}  // namespace
}  // namespace longshadow

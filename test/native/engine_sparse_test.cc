// Prompt chunks whose rows attend to chosen keys.
#include <gtest/gtest.h>

#include <cmath>

#include "test/native/engine_sparse_support.h"

namespace longshadow::engine_sparse_test {
namespace {

using model_test::CodeOf;

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
  for (const HeadBudget& budget : {kWideShape, kAllLines, kAllBlocks, kAllByMass, kAllByBounds}) {
    SparsePolicy policy = Policy({budget});
    policy.flex.min_tiles = kAll;
    const Outcome sparse = Run(&policy);
    EXPECT_LE(Farthest(sparse.logprobs, dense.logprobs), Tolerance())
        << static_cast<int>(budget.pattern);
    for (const SparseStats& stats : sparse.stats) {
      EXPECT_GT(SumOfSparse(stats.causal_keys), 0);
      EXPECT_EQ(Sum(stats.attended_keys), Sum(stats.causal_keys));
    }
  }
}

// What the tolerance above is worth: no wrong choice of keys comes near it.
TEST_P(EngineSparse, IsFarFromDenseWhenKeysAreMissing) {
  const Outcome dense = Run(nullptr);
  const auto off_by = [&](const HeadBudget& budget) {
    const SparsePolicy policy = Policy({budget});
    return Farthest(Run(&policy).logprobs, dense.logprobs);
  };
  for (const HeadBudget& budget : {kNarrowShape, kFewLines, kFewBlocks, kFewByMass, kFewByBounds}) {
    EXPECT_GT(off_by(budget), 20 * Tolerance()) << static_cast<int>(budget.pattern);
  }
  EXPECT_GT(off_by(kNearlyAll), 4 * Tolerance()) << "the first keys alone";
}

TEST_P(EngineSparse, ChunksThatEndWithinTheThresholdAreDenseToTheBit) {
  const Outcome dense = Run(nullptr);
  SparsePolicy policy = Tiny();
  policy.dense_below_tokens = kTokens;
  const Outcome below = Run(&policy);
  EXPECT_TRUE(below.SameBits(dense));
  EXPECT_EQ(SumOfSparse(below.stats.back().causal_keys), 0);
  EXPECT_EQ(below.stats.back().estimate_micros, 0);
  policy.dense_below_tokens = kTokens - 1;
  const Outcome above = Run(&policy);
  EXPECT_EQ(SumOfSparse(above.stats[1].causal_keys), 0) << "the second chunk ends within it";
  EXPECT_GT(SumOfSparse(above.stats[2].causal_keys), 0);
  EXPECT_FALSE(above.SameBits(dense));
  EXPECT_TRUE(
      std::equal(dense.logprobs.begin(), dense.logprobs.begin() + 1024, above.logprobs.begin()));
}

TEST_P(EngineSparse, LayersWithoutAChoiceAreDenseToTheBit) {
  const SparsePolicy policy = Policy({kDenseHead});
  const Outcome outcome = Run(&policy);
  EXPECT_TRUE(outcome.SameBits(Run(nullptr)));
  EXPECT_EQ(SumOfSparse(outcome.stats.back().causal_keys), 0);
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
  EXPECT_EQ(SumOfSparse(sparse.stats[2].causal_keys), 0);
  for (std::int64_t row = 1024; row < 1027; ++row) {
    EXPECT_EQ(sparse.logprobs[row], dense.logprobs[row]) << row;
  }
  const std::vector<std::int64_t> longer = {512, 1024 + 3};
  const Outcome together = Run(&policy, longer);
  const Outcome whole = Run(nullptr, longer);
  for (std::int64_t row = 1024; row < 1027; ++row) {
    EXPECT_NEAR(together.logprobs[row], whole.logprobs[row], Tolerance()) << row;
  }
  const auto rows = [](const Outcome& outcome) {
    return std::vector<float>(outcome.logprobs.begin() + 960, outcome.logprobs.begin() + 1024);
  };
  EXPECT_GT(Farthest(rows(together), rows(whole)), 10 * Tolerance())
      << "the block before is sparse";
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
  EXPECT_GT(with.stats[2].guard_error_max, 20 * GuardTolerance())
      << "a tenth of the keys of flat attention";

  SparsePolicy full = Policy({kAllLines});
  full.guard_interval = 1;
  for (const SparseStats& stats : Run(&full).stats) {
    EXPECT_EQ(stats.guard_blocks, 2);
    EXPECT_LE(stats.guard_error_max, GuardTolerance());
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

TEST_P(EngineSparse, BitsAndCountsDoNotDependOnThreads) {
  SparsePolicy policy = Tiny();
  policy.guard_interval = 1;
  const Outcome two = Run(&policy, kEnds, kTokens - 128);
  for (const int threads : {1, 3, 7}) {
    Open(2, threads);
    const Outcome other = Run(&policy, kEnds, kTokens - 128);
    EXPECT_TRUE(other.SameBits(two)) << threads;
    for (std::size_t chunk = 0; chunk < kEnds.size(); ++chunk) {
      EXPECT_EQ(other.stats[chunk].layer_attended_keys, two.stats[chunk].layer_attended_keys);
      EXPECT_EQ(other.stats[chunk].guard_error_sum, two.stats[chunk].guard_error_sum);
    }
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

}  // namespace
}  // namespace longshadow::engine_sparse_test

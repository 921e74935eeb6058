// Keys that a chunk's attention counts, by pattern and by layer.
#include <gtest/gtest.h>

#include "longshadow/sparse_selection.h"
#include "test/native/engine_sparse_support.h"

namespace longshadow::engine_sparse_test {
namespace {

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

class EngineSparseCounts : public EngineSparse {};

std::int64_t Of(HeadPattern pattern, const std::int64_t (&keys)[kHeadPatterns]) {
  return keys[static_cast<std::size_t>(pattern)];
}

/// Nothing is attended to that dense attention would not see, and layers are the same keys as
/// patterns.
void ExpectConsistent(const SparseStats& stats, std::size_t layers) {
  EXPECT_EQ(Sum(stats.layer_attended_keys), Sum(stats.attended_keys));
  EXPECT_EQ(Sum(stats.layer_causal_keys), Sum(stats.causal_keys));
  EXPECT_EQ(Of(HeadPattern::kDense, stats.attended_keys),
            Of(HeadPattern::kDense, stats.causal_keys));
  ASSERT_EQ(stats.layer_attended_keys.size(), layers);
  ASSERT_EQ(stats.layer_causal_keys.size(), layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    EXPECT_LE(stats.layer_attended_keys[layer], stats.layer_causal_keys[layer]) << layer;
  }
}

TEST_P(EngineSparseCounts, KeysByPatternAndTimesByStep) {
  const SparsePolicy policy = Policy({kDenseHead, kNarrowShape, kFewLines, kFewBlocks});
  const Outcome outcome = Run(&policy, {512, 1200}, 1200 - 128);
  const SparseStats& stats = outcome.stats[1];
  const std::int64_t sparse_end = (1200 - 128) / kBlockTokens * kBlockTokens;
  const std::int64_t causal = 2 * CausalKeys(512, sparse_end);  // two layers
  const std::int64_t tail = 2 * kHeads * CausalKeys(sparse_end, 1200);
  for (const HeadPattern pattern :
       {HeadPattern::kAShape, HeadPattern::kVerticalSlash, HeadPattern::kBlockSparse}) {
    EXPECT_EQ(Of(pattern, stats.causal_keys), causal) << static_cast<int>(pattern);
    EXPECT_GT(Of(pattern, stats.attended_keys), 0);
  }
  EXPECT_EQ(Of(HeadPattern::kFlex, stats.causal_keys), 0);
  EXPECT_EQ(Of(HeadPattern::kFlex, stats.attended_keys), 0);
  EXPECT_EQ(Of(HeadPattern::kDense, stats.causal_keys), causal + tail)
      << "a dense head, and the last rows of all";
  EXPECT_EQ(Of(HeadPattern::kAShape, stats.attended_keys),
            2 * ShapeKeys(kNarrowShape, 512, sparse_end));
  const std::int64_t blocks = (sparse_end - 512) / kBlockTokens;
  EXPECT_EQ(Of(HeadPattern::kBlockSparse, stats.attended_keys),
            2 * blocks * kFewBlocks.tiles * kBlockTokens);
  EXPECT_LT(Of(HeadPattern::kVerticalSlash, stats.attended_keys), causal);
  EXPECT_GT(stats.estimate_micros, 0);
  EXPECT_GT(stats.attention_micros, 0);
  EXPECT_LE(stats.estimate_micros + stats.index_micros + stats.attention_micros,
            outcome.attention_micros[1]);
  EXPECT_LE(outcome.attention_micros[1], outcome.engine_micros[1]);
}

// Layer 0 has windows, layer 1 is dense, layer 2 has half of each; the last rows are dense.
TEST_P(EngineSparseCounts, KeysOfEveryLayerDenseOnesToo) {
  Open(3, 2);
  SparsePolicy policy = Policy({kDenseHead}, 3);
  for (const std::size_t head : {0, 1, 2, 3, 8, 9}) policy.heads[head] = kNarrowShape;
  const Outcome outcome = Run(&policy, {512, 1200}, 1200 - 128);
  const SparseStats& stats = outcome.stats[1];
  const std::int64_t sparse_end = (1200 - 128) / kBlockTokens * kBlockTokens;
  const std::int64_t causal = kHeads * (CausalKeys(512, sparse_end) + CausalKeys(sparse_end, 1200));
  EXPECT_EQ(stats.layer_causal_keys, std::vector<std::int64_t>(3, causal));
  const std::int64_t saved = CausalKeys(512, sparse_end) - ShapeKeys(kNarrowShape, 512, sparse_end);
  ASSERT_GT(saved, 0);
  EXPECT_EQ(stats.layer_attended_keys,
            (std::vector<std::int64_t>{causal - 4 * saved, causal, causal - 2 * saved}));
  ExpectConsistent(stats, 3);
}

TEST_P(EngineSparseCounts, TheSameKeysByPatternAsByLayer) {
  SparsePolicy policy = Tiny();
  policy.dense_below_tokens = 512;
  const Outcome outcome = Run(&policy, kEnds, kTokens - 128);
  for (const SparseStats& stats : outcome.stats) ExpectConsistent(stats, 2);
  for (std::size_t chunk = 0; chunk < kEnds.size(); ++chunk) {
    const std::int64_t begin = chunk == 0 ? 0 : kEnds[chunk - 1];
    EXPECT_EQ(Sum(outcome.stats[chunk].causal_keys), 2 * kHeads * CausalKeys(begin, kEnds[chunk]))
        << "every row of every head";
    EXPECT_EQ(SumOfSparse(outcome.stats[chunk].causal_keys) > 0, chunk > 0);
  }
}

TEST_P(EngineSparseCounts, AChunkThatIsDenseAsWhole) {
  SparsePolicy policy = Tiny();
  policy.dense_below_tokens = kTokens;
  const SparseStats stats = Run(&policy, {512, 1200}).stats[1];
  const std::int64_t layer = kHeads * CausalKeys(512, 1200);
  EXPECT_EQ(stats.layer_attended_keys, std::vector<std::int64_t>(2, layer));
  EXPECT_EQ(stats.layer_causal_keys, stats.layer_attended_keys);
  EXPECT_EQ(Of(HeadPattern::kDense, stats.attended_keys), 2 * layer);
  ExpectConsistent(stats, 2);
}

TEST_P(EngineSparseCounts, NothingWithoutAPolicy) {
  const SparseStats stats = Run(nullptr, {512}).stats[0];
  EXPECT_EQ(Sum(stats.causal_keys), 0);
  EXPECT_EQ(Sum(stats.attended_keys), 0);
  EXPECT_EQ(stats.layer_causal_keys, std::vector<std::int64_t>(2, 0));
  EXPECT_EQ(stats.layer_attended_keys, std::vector<std::int64_t>(2, 0));
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineSparseCounts,
                         testing::Values(Case{"reference", DType::kF32}, Case{"cpu", DType::kF32},
                                         Case{"cpu", DType::kBF16}));

}  // namespace
}  // namespace longshadow::engine_sparse_test

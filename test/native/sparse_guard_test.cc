// Which query blocks of a sparse chunk are computed densely too, and the error that they show.
#include "engine/sparse_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace longshadow {
namespace {

constexpr HeadBudget kNarrowShape{HeadPattern::kAShape, 8, 64, 0};
constexpr HeadBudget kFewLines{HeadPattern::kVerticalSlash, 40, 120, 4};

// The guard sees every layer and its share of the work at any length of chunk: a plain "every n-th"
// would meet the same layer always where n divides the layers of a chunk's step.
TEST(SparseGuard, SamplesEvenlyOverLayersWhateverTheChunks) {
  constexpr std::int32_t kLayers = 6;
  constexpr std::int32_t kInterval = 16;
  const std::vector<HeadBudget> budgets = {{}, kNarrowShape, {}, kFewLines};
  for (const std::int64_t chunk_tokens : {512, 2048, 4096, 5120}) {
    std::set<std::int32_t> layers;
    std::set<std::int64_t> blocks;
    std::set<std::int32_t> heads;
    int samples = 0;
    constexpr int kChunks = 256;
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      for (std::int32_t layer = 0; layer < kLayers; ++layer) {
        const auto sample =
            SampleForGuard(kInterval, budgets, chunk * chunk_tokens, layer, kLayers, 8);
        if (!sample) continue;
        ++samples;
        layers.insert(layer);
        blocks.insert(sample->block);
        heads.insert(sample->head);
      }
    }
    EXPECT_NEAR(samples, kChunks * kLayers / kInterval, 10) << chunk_tokens;
    EXPECT_EQ(layers.size(), 6U) << chunk_tokens;
    EXPECT_EQ(blocks, (std::set<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
    EXPECT_EQ(heads, (std::set<std::int32_t>{1, 3})) << "heads that choose keys";
  }
  EXPECT_FALSE(SampleForGuard(0, budgets, 0, 0, kLayers, 8));
}

}  // namespace
}  // namespace longshadow

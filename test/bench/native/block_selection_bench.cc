// The attention that is drawn here has its mass in one key block of 50, so that a selection has
// about the size that real heads have: uniform attention would need nearly every block.
#include "test/bench/native/block_selection_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <random>
#include <vector>

#include "test/bench/native/embedded_model.h"

namespace longshadow::bench {
namespace {

using embedded_model::kHeadDim;
using embedded_model::kKvHeads;
using embedded_model::kQueryHeads;
constexpr std::int64_t kRows = 16384;
constexpr std::int64_t kHeavyBlock = 50;

/// Random elements, with element 0 of some rows raised.
template <typename IsRaised>
std::vector<BFloat16> Draw(std::int64_t rows, float raise, const IsRaised& is_raised) {
  // The noise repeats, at a length that no block has.
  constexpr std::size_t kNoise = 99991;
  std::mt19937 generator{1};
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<BFloat16> noise(kNoise);
  for (BFloat16& value : noise) value = BFloat16::FromFloat(uniform(generator));
  std::vector<BFloat16> values(static_cast<std::size_t>(rows * kHeadDim));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = noise[i % kNoise];
  for (std::int64_t row = 0; row < rows; ++row) {
    if (is_raised(row)) {
      values[static_cast<std::size_t>(row * kHeadDim)] = BFloat16::FromFloat(raise);
    }
  }
  return values;
}

/// A chunk of kRows rows at the end of `keys` keys, in one layer.
struct Chunk {
  explicit Chunk(std::int64_t keys)
      : k(Draw(keys * kKvHeads, 8,
               [](std::int64_t row) { return row / kBlockTokens % kHeavyBlock == 7; })),
        q(Draw(kRows * kQueryHeads, 8, [](std::int64_t) { return true; })),
        position(keys - kRows) {
    auto* page = reinterpret_cast<std::byte*>(k.data());
    for (std::int64_t p = 0; p < keys / kPageTokens; ++p) {
      pages.push_back(page + p * geometry.PageBytes());
    }
  }

  std::unique_ptr<SparseSelection> Select(Backend& backend, const HeadBudget& budget,
                                          const FlexOptions& flex) const {
    constexpr std::int64_t kColumns = std::int64_t{kQueryHeads} * kHeadDim;
    const std::vector<HeadBudget> budgets(kQueryHeads, budget);
    return backend.SelectKeys({q.data(), DType::kBF16, kRows, kColumns, kColumns},
                              {kQueryHeads, kKvHeads, kHeadDim, 0.125F}, geometry, 0,
                              {0, kRows, position, {pages, pages}}, budgets, flex);
  }

  KvGeometry geometry{1, kKvHeads, kHeadDim, DType::kBF16};
  std::vector<BFloat16> k;
  std::vector<BFloat16> q;
  std::vector<std::byte*> pages;
  std::int64_t position;
};

struct Case {
  const char* name;
  HeadBudget budget;
  float tau;
};

void Run(Backend& backend, const Chunk& chunk, const Case& c) {
  const FlexOptions flex{0.95F, c.tau, 8};
  std::vector<double> times;
  std::vector<double> cpu_times;
  std::unique_ptr<SparseSelection> selection;
  for (int repeat = 0; repeat < 4; ++repeat) {
    const std::clock_t cpu_begin = std::clock();
    const auto begin = std::chrono::steady_clock::now();
    selection = chunk.Select(backend, c.budget, flex);
    const auto end = std::chrono::steady_clock::now();
    if (repeat == 0) continue;
    times.push_back(std::chrono::duration<double, std::milli>(end - begin).count());
    cpu_times.push_back(1e3 * static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC);
  }
  std::ranges::sort(times);
  std::ranges::sort(cpu_times);
  const KeySelection keys = selection->ToHost();
  double blocks = 0;
  for (const HeadSelection& head : keys.heads) blocks += static_cast<double>(head.blocks.size());
  const double query_blocks = static_cast<double>(kQueryHeads * kRows / kBlockTokens);
  std::printf(
      "{\"name\":\"select %s hd%d\",\"shape\":\"%lld rows, %lld keys, %d heads\",\"ms\":%.1f,"
      "\"best_ms\":%.1f,\"cpu_ms\":%.1f,\"blocks\":%.1f,\"isa\":\"%s\"}\n",
      c.name, kHeadDim, static_cast<long long>(kRows),
      static_cast<long long>(keys.position + kRows), kQueryHeads, times[times.size() / 2],
      times.front(), cpu_times.front(), blocks / query_blocks,
      std::string(backend.InstructionSet()).c_str());
  std::fflush(stdout);
}

}  // namespace

void BlockSelections(Backend& backend) {
  const Case cases[] = {{"block-sparse", {HeadPattern::kBlockSparse, 0, 0, 100}, 0},
                        {"key-bounds", {HeadPattern::kKeyBounds, 0, 0, 100}, 0},
                        {"flex vertical-slash", {HeadPattern::kFlex, 0, 0, 0}, 0},
                        {"flex query-aware", {HeadPattern::kFlex, 0, 0, 0}, 1}};
  for (const std::int64_t keys : {std::int64_t{131072}, std::int64_t{1} << 20}) {
    const Chunk chunk(keys);
    for (const Case& c : cases) Run(backend, chunk, c);
  }
}

}  // namespace longshadow::bench

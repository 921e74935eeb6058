// The estimate and the dense kernel over the same 64 rows take turns. Both count 4 head_dim flops
// for each (query, key): the estimate has Q K^T twice, dense attention Q K^T and P V. Times are the
// processor's, of all threads, and the least of several: others may use the machine.
#include "test/bench/native/estimate_bench.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "longshadow/sparse_selection.h"
#include "test/bench/native/embedded_model.h"
#include "test/bench/native/random_cache.h"

namespace longshadow::bench {
namespace {

using embedded_model::kHeadDim;
using embedded_model::kKvHeads;
constexpr std::int32_t kHeads = embedded_model::kQueryHeads;
constexpr std::int64_t kColumns = static_cast<std::int64_t>(kHeads) * kHeadDim;
constexpr std::int64_t kChunk = 8192;
constexpr HeadBudget kBudget{HeadPattern::kVerticalSlash, 1000, 6096, 64};
constexpr int kRepeats = 7;

/// Processor's time on work, of all threads.
double CpuSeconds(const std::function<void()>& work) {
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double begin = now();
  work();
  return now() - begin;
}

/// Least seconds of each part. Choosing: of all heads.
struct Parts {
  double estimate = std::numeric_limits<double>::max();
  double dense = estimate, select = estimate, choose = estimate, index = estimate;
};

std::vector<BFloat16> Random(std::int64_t count) {
  std::vector<BFloat16> values(static_cast<std::size_t>(count));
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-3, 3);
  for (BFloat16& v : values) v = BFloat16::FromFloat(uniform(generator));
  return values;
}

Parts Time(Backend& backend, std::int64_t keys) {
  const KvGeometry geometry{1, kKvHeads, kHeadDim, DType::kBF16};
  const AttentionShape shape{kHeads, kKvHeads, kHeadDim, 0.125F};
  const Cache cache(geometry, keys, Random(1 << 20));
  const std::vector<BFloat16> queries = Random(kChunk * kColumns);
  std::vector<BFloat16> out(queries.size());
  const ConstMatrixView q(queries.data(), DType::kBF16, kChunk, kColumns, kColumns);
  const SequenceRows chunk{0, kChunk, keys - kChunk, {cache.k, cache.v}};
  const SequenceRows last{kChunk - kEstimateRows, kEstimateRows, keys - kEstimateRows, chunk.pages};
  const std::vector<HeadBudget> budgets(kHeads, kBudget);
  const std::int32_t heads[kHeads] = {0, 1, 2, 3};
  std::vector<float> memory(static_cast<std::size_t>(2 * kHeads * keys));
  std::vector<LineScores> scores;
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const auto part = static_cast<std::size_t>(keys);
    float* first = memory.data() + 2 * h * keys;
    scores.push_back({{first, part}, {first + keys, part}});
  }
  Parts best;
  const auto time = [](double& least, const std::function<void()>& work) {
    least = std::min(least, CpuSeconds(work));
  };
  for (int r = 0; r < kRepeats; ++r) {
    time(best.estimate, [&] { backend.EstimateLines(q, shape, geometry, 0, last, heads, scores); });
    time(best.dense, [&] {
      backend.Attention(q, shape, geometry, 0, {&last, 1},
                        {out.data(), DType::kBF16, kChunk, kColumns, kColumns});
    });
    time(best.choose, [&] {
      for (const LineScores& s : scores) ChooseLines(s.vertical, s.slash, kBudget);
    });
    std::unique_ptr<SparseSelection> selection;
    time(best.select,
         [&] { selection = backend.SelectKeys(q, shape, geometry, 0, chunk, budgets, {}); });
    time(best.index, [&] { backend.IndexRows(*selection, chunk.position, chunk.rows); });
  }
  return best;
}

}  // namespace

void TimeEstimates(Backend& backend) {
  for (const std::int64_t keys : {std::int64_t{131072}, std::int64_t{1} << 20}) {
    const Parts best = Time(backend, keys);
    const double work = 4.0 * kEstimateRows * static_cast<double>(keys) * kHeadDim * kHeads / 1e9;
    std::printf(
        "{\"name\":\"estimate hd%d\",\"shape\":\"%d heads, %lld keys\",\"gflops_per_core\":%.1f,"
        "\"dense_gflops_per_core\":%.1f,\"best_ratio\":%.3f,\"estimate_cpu_ms\":%.1f,"
        "\"choose_cpu_ms\":%.1f,\"select_cpu_ms\":%.1f,\"index_cpu_ms\":%.1f,\"isa\":\"%s\"}\n",
        kHeadDim, kHeads, static_cast<long long>(keys), work / best.estimate, work / best.dense,
        best.dense / best.estimate, best.estimate * 1e3, best.choose * 1e3, best.select * 1e3,
        best.index * 1e3, std::string(backend.InstructionSet()).c_str());
    std::fflush(stdout);
  }
}

}  // namespace longshadow::bench

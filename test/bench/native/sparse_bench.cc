// Sparse attention against dense attention of the same backend: 512 rows at the end of 128K tokens,
// heads as many as the embedded model has. Work is 4 head_dim flops for each row and key of the
// index, the few that the diagonal hides included; dense attention runs over 8,192 keys, so that
// both take about as long and meet the same neighbours on a machine that others use.
//
//   gflops, dense_gflops   of the median time
//   ratio                  median of the ratios of neighbouring runs
//   cpu_ratio              the same of processor time, which leaves out waiting for a core
#include "test/bench/native/sparse_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "longshadow/sparse_prefill.h"
#include "test/bench/native/embedded_model.h"
#include "test/bench/native/random_cache.h"

namespace longshadow::bench {
namespace {

constexpr std::int64_t kKeys = 131072;
constexpr std::int64_t kRows = 512;
constexpr std::int64_t kDenseKeys = 8192;
constexpr std::int64_t kHeads = embedded_model::kQueryHeads;
constexpr std::int32_t kKv = embedded_model::kKvHeads;
constexpr int kRepeats = 21;

struct Times {
  double wall = 0;
  double cpu = 0;
};

Times Measure(const std::function<void()>& work) {
  const std::clock_t cpu = std::clock();
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  return {wall.count(), static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC};
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<BFloat16> Random(std::mt19937& generator, std::int64_t count) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<BFloat16> values(static_cast<std::size_t>(count));
  for (BFloat16& v : values) v = BFloat16::FromFloat(uniform(generator));
  return values;
}

/// `count` of the numbers [0, below), ascending.
std::vector<std::uint32_t> Draw(std::mt19937& generator, std::int64_t below, std::int64_t count) {
  std::vector<std::uint32_t> all(static_cast<std::size_t>(below));
  std::iota(all.begin(), all.end(), 0U);
  std::vector<std::uint32_t> drawn;
  std::sample(all.begin(), all.end(), std::back_inserter(drawn), count, generator);
  return drawn;
}

/// Random columns before the chunk, and the diagonals that cover the `near` keys before each query
/// block's last one.
HeadSelection Lines(std::mt19937& generator, std::int64_t columns, std::int64_t near) {
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = Draw(generator, kKeys - kRows - near, columns);
  for (std::int64_t d = 0; d < near; d += kBlockTokens) {
    head.distances.push_back(static_cast<std::uint32_t>(d));
  }
  return head;
}

/// For each query block its own and `blocks` random key blocks before the chunk.
HeadSelection Blocks(std::mt19937& generator, std::int64_t blocks) {
  HeadSelection head;
  head.form = HeadSelection::Form::kBlocks;
  head.block_offsets.push_back(0);
  for (std::int64_t i = 0; i < kRows / kBlockTokens; ++i) {
    const auto drawn = Draw(generator, (kKeys - kRows) / kBlockTokens, blocks);
    head.blocks.insert(head.blocks.end(), drawn.begin(), drawn.end());
    head.blocks.push_back(static_cast<std::uint32_t>((kKeys - kRows) / kBlockTokens + i));
    head.block_offsets.push_back(static_cast<std::int64_t>(head.blocks.size()));
  }
  return head;
}

class SparseBench {
 public:
  SparseBench(Backend& backend, std::int32_t threads, std::int32_t head_dim)
      : backend_(backend),
        threads_(threads),
        shape_{kHeads, kKv, head_dim, 0.125F},
        geometry_{1, kKv, head_dim, DType::kBF16},
        cache_(geometry_, kKeys, Random(generator_, 1 << 20)),
        q_(Random(generator_, kRows * kHeads * head_dim)),
        out_(q_.size()) {}

  void Run(const char* name, const std::function<HeadSelection(std::mt19937&)>& head) {
    KeySelection keys{kKeys - kRows, kRows, {}};
    for (std::int64_t h = 0; h < kHeads; ++h) keys.heads.push_back(head(generator_));
    const auto selection = backend_.UploadSelection(keys, kHeads);
    backend_.IndexRows(*selection, keys.position, kRows);
    Sparse(*selection);
    Dense();
    std::int64_t pairs = 0;  // of the one run so far
    for (const std::int64_t attended : selection->AttendedKeys()) pairs += attended * kBlockTokens;
    std::vector<Times> sparse;
    std::vector<Times> dense;
    for (int r = 0; r < kRepeats; ++r) {
      sparse.push_back(Measure([&] { Sparse(*selection); }));
      dense.push_back(Measure([&] { Dense(); }));
    }
    Report(name, pairs, sparse, dense);
  }

 private:
  ConstMatrixView Queries() const {
    const std::int64_t columns = kHeads * shape_.head_dim;
    return {q_.data(), DType::kBF16, kRows, columns, columns};
  }
  MatrixView Out() {
    const std::int64_t columns = kHeads * shape_.head_dim;
    return {out_.data(), DType::kBF16, kRows, columns, columns};
  }
  void Sparse(SparseSelection& selection) {
    backend_.SparseAttention(Queries(), shape_, geometry_, 0,
                             {0, kRows, kKeys - kRows, {cache_.k, cache_.v}}, selection, Out());
  }
  void Dense() {
    const SequenceRows rows[] = {{0, kRows, kDenseKeys - kRows, {cache_.k, cache_.v}}};
    backend_.Attention(Queries(), shape_, geometry_, 0, rows, Out());
  }
  void Report(const char* name, std::int64_t pairs, const std::vector<Times>& sparse,
              const std::vector<Times>& dense) const {
    const auto flops = [&](std::int64_t of) {
      return 4.0 * static_cast<double>(of * shape_.head_dim) / 1e9;
    };
    const double work = flops(pairs);
    const double dense_work =
        flops(kHeads * (kRows * (kDenseKeys - kRows) + kRows * (kRows + 1) / 2));
    std::vector<double> walls, dense_walls, ratios, cpu_ratios;
    for (std::size_t i = 0; i < sparse.size(); ++i) {
      walls.push_back(sparse[i].wall);
      dense_walls.push_back(dense[i].wall);
      ratios.push_back(work / sparse[i].wall / (dense_work / dense[i].wall));
      cpu_ratios.push_back(work / sparse[i].cpu / (dense_work / dense[i].cpu));
    }
    std::printf(
        "{\"name\":\"sparse attention hd%d\",\"shape\":\"%s\",\"gflops\":%.1f,"
        "\"dense_gflops\":%.1f,\"ratio\":%.3f,\"cpu_ratio\":%.3f,\"target\":0.70,"
        "\"isa\":\"%s\",\"threads\":%d}\n",
        shape_.head_dim, name, work / Median(walls), dense_work / Median(dense_walls),
        Median(ratios), Median(cpu_ratios), std::string(backend_.InstructionSet()).c_str(),
        threads_);
    std::fflush(stdout);
  }

  Backend& backend_;
  std::int32_t threads_;
  std::mt19937 generator_{1};
  AttentionShape shape_;
  KvGeometry geometry_;
  Cache cache_;
  std::vector<BFloat16> q_, out_;
};

}  // namespace

void SparseAttentions(Backend& backend, std::int32_t threads) {
  for (const std::int32_t head_dim : {64, 128}) {
    SparseBench bench(backend, threads, head_dim);
    bench.Run("64 scattered tiles", [](std::mt19937& g) { return Blocks(g, 63); });
    bench.Run("2048 near keys, 2048 columns", [](std::mt19937& g) { return Lines(g, 2048, 2048); });
    bench.Run("4096 columns", [](std::mt19937& g) { return Lines(g, 4096, kBlockTokens); });
  }
}

}  // namespace longshadow::bench

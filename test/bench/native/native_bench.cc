// The native benchmark: one JSON line a case. Kernels are held against this machine's peaks,
// measured in the same run and interleaved with them; the best of the peaks and the median of the
// kernels count. `best_ratio` is of the best kernel: what is left of it on a machine that others
// use.
//
//   npm run bench:native                   all cases
//   npm run bench:native -- CASE...        some of them, by the names of kCases
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "longshadow/backend.h"
#include "test/bench/native/block_selection_bench.h"
#include "test/bench/native/embedded_model.h"
#include "test/bench/native/estimate_bench.h"
#include "test/bench/native/peaks.h"
#include "test/bench/native/random_cache.h"
#include "test/bench/native/sparse_bench.h"

namespace longshadow::bench {
namespace {

double Seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Cores that this process may run on: what `taskset` leaves.
std::int32_t UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

struct Measured {
  double seconds = 0;       // median
  double best_seconds = 0;  // least
  double peak = 0;          // best
};

/// Alternates the kernel and its peak, after one unmeasured run of the kernel.
Measured Interleave(int repeats, const std::function<void()>& kernel,
                    const std::function<double()>& peak) {
  kernel();
  std::vector<double> times;
  Measured result;
  for (int r = 0; r < repeats; ++r) {
    result.peak = std::max(result.peak, peak());
    times.push_back(Seconds(kernel));
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  result.seconds = times[static_cast<std::size_t>(repeats / 2)];
  result.best_seconds = *std::min_element(times.begin(), times.end());
  return result;
}

/// Memory of a backend.
class Memory {
 public:
  Memory(Backend& backend, std::int64_t bytes)
      : backend_(backend), data_(backend.Allocate(bytes)) {}
  ~Memory() { backend_.Free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const { return data_; }

 private:
  Backend& backend_;
  void* data_;
};

class Bench {
 public:
  Bench()
      : threads_(UsableCores()),
        backend_(MakeBackend("cpu", threads_)),
        isa_(backend_->InstructionSet()) {}

  void MatMuls();
  void Prefills();
  void Sparse() { SparseAttentions(*backend_, threads_); }
  void Blocks() { BlockSelections(*backend_); }
  void Decodes();
  void Estimates() { TimeEstimates(*backend_); }

 private:
  void Report(const std::string& name, const std::string& shape, const char* unit, double work,
              const Measured& m, double target) const {
    std::printf(
        "{\"name\":\"%s\",\"shape\":\"%s\",\"%s\":%.1f,\"peak\":%.1f,\"ratio\":%.3f,"
        "\"best_ratio\":%.3f,\"target\":%.2f,\"isa\":\"%s\",\"threads\":%d}\n",
        name.c_str(), shape.c_str(), unit, work / m.seconds, m.peak, work / m.seconds / m.peak,
        work / m.best_seconds / m.peak, target, isa_.c_str(), threads_);
    std::fflush(stdout);
  }
  double Peak() const { return PeakGflops(isa_.c_str(), threads_, 1); }
  std::vector<BFloat16> Random(std::int64_t count, float scale) {
    std::vector<BFloat16> values(static_cast<std::size_t>(count));
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (BFloat16& v : values) v = BFloat16::FromFloat(uniform(generator_));
    return values;
  }
  Measured MatMul(std::int64_t rows, std::int64_t out, std::int64_t in);
  void Prefill(std::int32_t head_dim, std::int64_t keys);
  void Decode(std::int32_t head_dim, std::int64_t keys, std::int64_t batch);

  std::int32_t threads_;
  std::unique_ptr<Backend> backend_;
  std::string isa_;
  std::mt19937 generator_{1};
};

Measured Bench::MatMul(std::int64_t rows, std::int64_t out, std::int64_t in) {
  const std::vector<BFloat16> w = Random(out * in, 1);
  const std::vector<BFloat16> x = Random(rows * in, 1);
  // As the engine has it: aligned, which a vector's elements are not.
  const Memory y(*backend_, rows * out * static_cast<std::int64_t>(sizeof(float)));
  const auto packed =
      backend_->Pack(ConstMatrixView(w.data(), DType::kBF16, out, in, in), DType::kBF16);
  return Interleave(
      15,
      [&] {
        backend_->MatMul(ConstMatrixView(x.data(), DType::kBF16, rows, in, in), *packed,
                         {y.data(), DType::kF32, rows, out, out}, false);
      },
      [&] { return Peak(); });
}

void Bench::MatMuls() {
  struct Shape {
    const char* name;
    std::int64_t out, in;
  };
  using namespace embedded_model;
  constexpr std::int64_t kQueryWidth = std::int64_t{kQueryHeads} * kHeadDim;
  constexpr std::int64_t kQkvWidth = kQueryWidth + std::int64_t{2} * kKvHeads * kHeadDim;
  constexpr Shape kShapes[] = {{"qkv", kQkvWidth, kHidden},
                               {"o", kHidden, kQueryWidth},
                               {"gate_up", 2 * kFfn, kHidden},
                               {"down", kHidden, kFfn},
                               {"lm_head", kVocabulary, kHidden}};
  for (const std::int64_t rows : {512, 2048}) {
    double flops = 0;
    Measured all;
    for (const Shape& s : kShapes) {
      const Measured m = MatMul(rows, s.out, s.in);
      const double work = 2.0 * static_cast<double>(rows * s.out * s.in) / 1e9;
      flops += work;
      all.seconds += m.seconds;
      all.best_seconds += m.best_seconds;
      all.peak = std::max(all.peak, m.peak);
      Report(std::string("matmul ") + s.name,
             std::to_string(rows) + "x" + std::to_string(s.in) + "x" + std::to_string(s.out),
             "gflops", work, m, 0.9);
    }
    Report("matmul all", std::to_string(rows) + " rows", "gflops", flops, all, 0.9);
  }
}

/// Heads of the embedded model; their dimension is varied.
using embedded_model::kKvHeads;
using embedded_model::kQueryHeads;

void Bench::Prefill(std::int32_t head_dim, std::int64_t keys) {
  const std::int64_t rows = 512;
  const KvGeometry geometry{1, kKvHeads, head_dim, DType::kBF16};
  const Cache cache(geometry, keys, Random(1 << 20, 1));
  const std::int64_t columns = kQueryHeads * head_dim;
  const std::vector<BFloat16> q = Random(rows * columns, 1);
  std::vector<BFloat16> out(q.size());
  const AttentionShape shape{kQueryHeads, kKvHeads, head_dim, 0.125F};
  const SequenceRows sequence[] = {{0, rows, keys - rows, {cache.k, cache.v}}};
  const Measured m = Interleave(
      keys > 65536 ? 5 : 11,
      [&] {
        backend_->Attention(ConstMatrixView(q.data(), DType::kBF16, rows, columns, columns), shape,
                            geometry, 0, sequence,
                            {out.data(), DType::kBF16, rows, columns, columns});
      },
      [&] { return Peak(); });
  // Causal pairs only: row r of the block sees keys - rows + r + 1 keys; 4 head_dim flops a pair.
  const double pairs = static_cast<double>(rows) * static_cast<double>(keys - rows) +
                       static_cast<double>(rows) * static_cast<double>(rows + 1) / 2;
  const double work = pairs * kQueryHeads * 4 * head_dim / 1e9;
  Report("prefill attention hd" + std::to_string(head_dim),
         std::to_string(rows) + " rows, " + std::to_string(keys) + " keys", "gflops", work, m,
         head_dim == 64 ? 0.65 : 0.70);
}

void Bench::Prefills() {
  for (const std::int32_t head_dim : {64, 128}) {
    for (const std::int64_t keys : {8192, 131072}) Prefill(head_dim, keys);
  }
}

void Bench::Decode(std::int32_t head_dim, std::int64_t keys, std::int64_t batch) {
  const KvGeometry geometry{1, kKvHeads, head_dim, DType::kBF16};
  const std::vector<BFloat16> random = Random(1 << 20, 1);
  const std::int64_t bytes = keys * geometry.BytesPerToken() * batch;
  // As many caches as it takes to be far larger than the last-level cache, used in turn: a step
  // of a real model touches every layer before it comes back.
  constexpr std::int64_t kFootprint = std::int64_t{2} << 30;
  const std::int64_t sets = std::max<std::int64_t>(1, kFootprint / bytes);
  std::vector<Cache> caches;
  for (std::int64_t i = 0; i < sets * batch; ++i) caches.emplace_back(geometry, keys, random);
  const std::int64_t columns = kQueryHeads * head_dim;
  const std::vector<BFloat16> q = Random(batch * columns, 1);
  std::vector<BFloat16> out(q.size());
  const AttentionShape shape{kQueryHeads, kKvHeads, head_dim, 0.125F};
  const DramReader dram(std::int64_t{1} << 30);
  const auto all_sets = [&] {
    for (std::int64_t set = 0; set < sets; ++set) {
      std::vector<SequenceRows> sequences;
      for (std::int64_t b = 0; b < batch; ++b) {
        const Cache& cache = caches[static_cast<std::size_t>(set * batch + b)];
        sequences.push_back({b, 1, keys - 1, {cache.k, cache.v}});
      }
      backend_->Attention(ConstMatrixView(q.data(), DType::kBF16, batch, columns, columns), shape,
                          geometry, 0, sequences,
                          {out.data(), DType::kBF16, batch, columns, columns});
    }
  };
  const Measured m = Interleave(5, all_sets, [&] { return dram.GbPerSecond(threads_, 1); });
  Report("decode attention hd" + std::to_string(head_dim),
         "batch " + std::to_string(batch) + ", " + std::to_string(keys) + " keys", "gbps",
         static_cast<double>(bytes * sets) / 1e9, m, 0.75);
}

void Bench::Decodes() {
  for (const std::int32_t head_dim : {64, 128}) {
    for (const std::int64_t batch : {1, 4}) Decode(head_dim, 131072, batch);
  }
}

struct Case {
  std::string_view name;
  void (Bench::*run)();
};
constexpr Case kCases[] = {{"matmul", &Bench::MatMuls}, {"prefill", &Bench::Prefills},
                           {"sparse", &Bench::Sparse},  {"blocks", &Bench::Blocks},
                           {"decode", &Bench::Decodes}, {"estimate", &Bench::Estimates}};

/// The cases of these names; all of them without a name. Throws for a name that is none.
std::vector<Case> Choose(std::span<const char* const> names) {
  std::vector<Case> chosen;
  std::string known;
  for (const Case& c : kCases) known += (known.empty() ? "" : ", ") + std::string(c.name);
  for (const std::string_view name : names) {
    const auto* const found = std::ranges::find(kCases, name, &Case::name);
    if (found == std::end(kCases)) {
      throw std::invalid_argument("there is no case \"" + std::string(name) + "\": want " + known);
    }
    chosen.push_back(*found);
  }
  if (names.empty()) chosen.assign(std::begin(kCases), std::end(kCases));
  return chosen;
}

}  // namespace
}  // namespace longshadow::bench

int main(int argc, char** argv) {
  using namespace longshadow::bench;
  try {
    const auto cases = Choose({argv + 1, argv + argc});
    Bench bench;
    for (const Case& c : cases) (bench.*c.run)();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "native_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

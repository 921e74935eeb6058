#include "test/bench/native/peaks.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace longshadow::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kChains = 24;  // independent sums: more than latency x ports of any CPU here
constexpr int kSteps = 20000;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Empty assembler statements keep the compiler from merging the chains or dropping the results.
__attribute__((target("avx512f,avx512bf16"))) void Bf16Loop() {
  __m512 sums[kChains];
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
    asm volatile("" : "+v"(sum));
  }
  __m512i a = _mm512_set1_epi32(0x3f813f85);
  __m512i b = _mm512_set1_epi32(0x3f833f84);
  asm volatile("" : "+v"(a), "+v"(b));
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < kChains; ++j) {
      sums[j] =
          _mm512_dpbf16_ps(sums[j], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
  }
  for (__m512& sum : sums) asm volatile("" ::"v"(sum));
}

__attribute__((target("avx512f"))) void Avx512Loop() {
  __m512 sums[kChains];
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
    asm volatile("" : "+v"(sum));
  }
  __m512 a = _mm512_set1_ps(1.01F);
  __m512 b = _mm512_set1_ps(0.99F);
  asm volatile("" : "+v"(a), "+v"(b));
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < kChains; ++j) sums[j] = _mm512_fmadd_ps(a, b, sums[j]);
  }
  for (__m512& sum : sums) asm volatile("" ::"v"(sum));
}

__attribute__((target("avx2,fma"))) void Avx2Loop() {
  constexpr int kFew = 12;  // 16 registers
  __m256 sums[kFew];
  for (__m256& sum : sums) {
    sum = _mm256_setzero_ps();
    asm volatile("" : "+x"(sum));
  }
  __m256 a = _mm256_set1_ps(1.01F);
  __m256 b = _mm256_set1_ps(0.99F);
  asm volatile("" : "+x"(a), "+x"(b));
  for (int i = 0; i < 2 * kSteps; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kFew; ++j) sums[j] = _mm256_fmadd_ps(a, b, sums[j]);
  }
  for (__m256& sum : sums) asm volatile("" ::"x"(sum));
}

template <typename Work>
double TimeOnThreads(std::int32_t threads, const Work& work) {
  std::vector<std::thread> others;
  const auto begin = Clock::now();
  for (std::int32_t t = 1; t < threads; ++t) others.emplace_back([&work, t] { work(t); });
  work(0);
  for (std::thread& other : others) other.join();
  return Seconds(begin);
}

}  // namespace

double PeakGflops(const char* isa, std::int32_t threads, int repeats) {
  const std::string_view name = isa;
  void (*loop)() = name == "avx512_bf16" ? Bf16Loop : name == "avx512" ? Avx512Loop : Avx2Loop;
  const double flops_per_step = name == "avx512_bf16" ? 64.0 : name == "avx512" ? 32.0 : 16.0;
  constexpr int kRounds = 20;
  double best = 0;
  for (int r = 0; r < repeats; ++r) {
    const double seconds = TimeOnThreads(threads, [&](std::int32_t) {
      for (int i = 0; i < kRounds; ++i) loop();
    });
    best = std::max(best, flops_per_step * kChains * kSteps * kRounds * threads / seconds / 1e9);
  }
  return best;
}

DramReader::DramReader(std::int64_t bytes)
    : bytes_(bytes),
      data_(
          static_cast<std::uint64_t*>(std::aligned_alloc(4096, static_cast<std::size_t>(bytes)))) {
  std::memset(data_, 1, static_cast<std::size_t>(bytes));
}

DramReader::~DramReader() { std::free(data_); }

namespace {

/// Sums 64-bit words with four vectors in flight; SSE2 is enough to saturate memory.
std::uint64_t ReadAll(const std::uint64_t* data, std::int64_t words) {
  __m128i sums[8] = {};
  for (std::int64_t i = 0; i + 16 <= words; i += 16) {
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm_add_epi64(sums[j],
                              _mm_load_si128(reinterpret_cast<const __m128i*>(data + i + 2 * j)));
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm_add_epi64(sums[0], sums[j]);
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sums[0]));
}

}  // namespace

double DramReader::GbPerSecond(std::int32_t threads, int repeats) const {
  const std::int64_t share = bytes_ / 8 / threads;
  double best = 0;
  for (int r = 0; r < repeats; ++r) {
    const double seconds = TimeOnThreads(threads, [&](std::int32_t t) {
      const std::uint64_t sum = ReadAll(data_ + t * share, share);
      asm volatile("" ::"r"(sum));
    });
    best = std::max(best, static_cast<double>(share * threads * 8) / seconds / 1e9);
  }
  return best;
}

}  // namespace longshadow::bench

#include "cpu_features.h"

#include <cpuid.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "longshadow/error.h"

namespace longshadow::cpu {
namespace {

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/// Intel's cores with AMX do half the flops of fp32 FMA with vdpbf16ps, so there plain AVX-512 over
/// the same bf16 storage is twice as fast; AMD's Zen 4 does twice those of FMA (decision 0008; the
/// peaks of `npm run bench:native` tell). Forcing a path is possible either way.
bool HasSlowBf16Dot() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kAmxBf16 = 1U << 22;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAmxBf16) != 0;
}

bool HasAvx512Bf16() { return HasAvx512() && __builtin_cpu_supports("avx512bf16"); }

struct Path {
  std::string_view name;
  bool (*available)();
  const Kernels& (*kernels)();
};
// Best first.
constexpr Path kPaths[] = {{"avx512_bf16", HasAvx512Bf16, Avx512Bf16Kernels},
                           {"avx512", HasAvx512, Avx512Kernels},
                           {"avx2", HasAvx2, Avx2Kernels}};

}  // namespace

const Kernels& ChooseKernels() {
  __builtin_cpu_init();
  const char* forced = std::getenv("LONGSHADOW_CPU_ISA");
  const std::string_view wanted = forced == nullptr ? "" : forced;
  bool known = wanted.empty();
  std::string available;
  const Kernels* best = nullptr;
  for (const Path& path : kPaths) {
    known = known || path.name == wanted;
    if (!path.available()) continue;
    const bool slow = path.available == HasAvx512Bf16 && HasSlowBf16Dot();
    if (best == nullptr && (wanted.empty() ? !slow : path.name == wanted)) best = &path.kernels();
    available += (available.empty() ? "" : ", ") + std::string(path.name);
  }
  if (best != nullptr) return *best;
  if (available.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "the cpu backend needs AVX2 and FMA, which this CPU lacks; use device 'reference'");
  }
  throw Error(ErrorCode::kUnsupported,
              "LONGSHADOW_CPU_ISA=" + std::string(wanted) +
                  (known ? " is not available on this CPU" : " is not a known instruction set") +
                  "; unset it or set one of: " + available);
}

}  // namespace longshadow::cpu

#pragma once

#include <cstdint>

/// This machine's limits, measured in the same run as the kernels that are held against them.
namespace longshadow::bench {

/// Multiply-add peak of `threads` threads, in GFLOP/s: the best of `repeats` runs of about 5 ms.
/// "avx512_bf16": vdpbf16ps; "avx512": fp32 FMA on 512 bits; "avx2": on 256 bits.
/// The caller checks that the CPU has the instruction set.
double PeakGflops(const char* isa, std::int32_t threads, int repeats);

/// Read bandwidth of `threads` threads over a buffer of `bytes` (far larger than any cache), in
/// GB/s: the best of `repeats` passes.
class DramReader {
 public:
  explicit DramReader(std::int64_t bytes);
  ~DramReader();
  DramReader(const DramReader&) = delete;
  DramReader& operator=(const DramReader&) = delete;
  double GbPerSecond(std::int32_t threads, int repeats) const;

 private:
  std::int64_t bytes_;
  std::uint64_t* data_;
};

}  // namespace longshadow::bench

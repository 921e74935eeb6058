// The instruction set "avx512_bf16". Compiled with its own -m flags; see CMakeLists.txt.
#define LONGSHADOW_BF16_DOT 1
#include "simd_avx512.h"
// The kernels below are written against it.
#include "block_kernels.h"
#include "bound_kernels.h"
#include "decode_f32_kernel.h"
#include "gemm_kernels.h"
#include "kernels.h"
#include "line_estimate_kernel.h"
#include "math_kernels.h"
#include "prefill_bf16_kernel.h"
#include "prefill_f32_kernel.h"
#include "sparse_bf16_kernel.h"
#include "sparse_f32_kernel.h"

namespace longshadow::cpu {
namespace {

std::int64_t PrefillBytes(std::int32_t head_dim, std::int32_t heads) {
  const std::int64_t f32 = F32PrefillFloats(head_dim, heads);
  const std::int64_t bf16 = Bf16PrefillWords(head_dim, heads);
  return (f32 > bf16 ? f32 : bf16) * 4;
}
std::int64_t SparseBytes(std::int32_t head_dim) {
  const std::int64_t f32 = SparseF32Floats(head_dim);
  const std::int64_t bf16 = SparseBf16Words(head_dim);
  return (f32 > bf16 ? f32 : bf16) * 4;
}
std::int64_t DecodeBytes(std::int32_t head_dim, std::int32_t queries) {
  return DecodeFloats(head_dim, queries) * 4;
}

constexpr Kernels kKernels = {
    .name = "avx512_bf16",
    .gemm_f32 = GemmF32,
    .gemm_bf16 = GemmBf16,
    .bf16_to_f32 = Bf16ToF32,
    .f32_to_bf16 = F32ToBf16,
    .rms_norm = RmsNorm,
    .silu_mul = SiluMul,
    .rope = Rope,
    .max = MaxOf,
    .sum_exp = SumExp,
    .count_greater = CountAbove,
    .mean_rows = MeanRows,
    .bound_rows = BoundRows,
    .score_bounds = ScoreBounds,
    .larger_difference = LargerDifference,
    .softmax = Softmax,
    .prefill_scratch_bytes = PrefillBytes,
    .prefill = PrefillBf16,
    .sparse_scratch_bytes = SparseBytes,
    .sparse = SparseBf16,
    .decode_scratch_bytes = DecodeBytes,
    .decode = DecodeF32,
    .estimate_scratch_bytes = EstimateBytes,
    .estimate_weights = EstimateWeights,
    .estimate_lines = EstimateLines,
};

}  // namespace

const Kernels& Avx512Bf16Kernels() { return kKernels; }

}  // namespace longshadow::cpu

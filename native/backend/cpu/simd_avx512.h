// 16 fp32 lanes. Include only from a file compiled with AVX-512 F, BW, VL and DQ: everything is
// in an unnamed namespace, so that none of it can be linked into code for older CPUs.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longshadow::cpu {
namespace {

constexpr std::int32_t kLanes = 16;
using Vec = __m512;

inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec Set1(float x) { return _mm512_set1_ps(x); }
inline Vec Zero() { return _mm512_setzero_ps(); }
inline Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
/// Max and Min: where either operand is NaN, the result is b.
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec Round(Vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/// v * 2^n for integral n in [-127, 128]; results below the normal range become 0 or subnormal.
inline Vec ScaleByPowerOf2(Vec v, Vec n) { return _mm512_scalef_ps(v, n); }
inline float ReduceAdd(Vec v) { return _mm512_reduce_add_ps(v); }
inline float ReduceMax(Vec v) { return _mm512_reduce_max_ps(v); }
/// Where the lane's limit is below `key`, -inf; else v. limits are int32 lanes.
inline Vec MaskAbove(Vec v, const std::int32_t* limits, std::int32_t key) {
  const __mmask16 keep =
      _mm512_cmpge_epi32_mask(_mm512_loadu_si512(limits), _mm512_set1_epi32(key));
  return _mm512_mask_blend_ps(keep, _mm512_set1_ps(-__builtin_inff()), v);
}
inline std::int64_t CountGreater(Vec a, Vec b) {
  return __builtin_popcount(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ));
}
inline Vec LoadBf16(const std::uint16_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
/// 32 adjacent bf16 as two vectors: the even elements and the odd ones.
inline void LoadEvenOdd(const std::uint16_t* p, Vec* even, Vec* odd) {
  const __m512i bits = _mm512_loadu_si512(p);
  *even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  *odd = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)));
}
/// Rounds to nearest, ties to even; subnormals kept, NaN stays NaN.
inline void StoreBf16(std::uint16_t* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
/// out[i] = the sum of v[i]'s lanes, for 16 vectors.
inline Vec ReduceEach(const Vec* v) {
  Vec a[8];
  for (int i = 0; i < 8; ++i) {  // pairs (2i, 2i + 1): lanes alternate between the two
    a[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                         _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
  }
  Vec b[4];
  for (int i = 0; i < 4; ++i) {  // each 128-bit part: 4 partial sums of vectors 4i..4i+3
    const __m512d lo = _mm512_castps_pd(a[2 * i]);
    const __m512d hi = _mm512_castps_pd(a[2 * i + 1]);
    b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi)));
  }
  const Vec c0 =
      _mm512_add_ps(_mm512_shuffle_f32x4(b[0], b[1], 0x88), _mm512_shuffle_f32x4(b[0], b[1], 0xdd));
  const Vec c1 =
      _mm512_add_ps(_mm512_shuffle_f32x4(b[2], b[3], 0x88), _mm512_shuffle_f32x4(b[2], b[3], 0xdd));
  return _mm512_add_ps(_mm512_shuffle_f32x4(c0, c1, 0x88), _mm512_shuffle_f32x4(c0, c1, 0xdd));
}

}  // namespace
}  // namespace longshadow::cpu

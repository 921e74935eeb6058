// What pooled attention needs besides products: means of rows, and softmax of a row. Include after
// math_kernels.h.
#pragma once

#include "math_kernels.h"

namespace longshadow::cpu {
namespace {

inline Vec LoadLanes(const float* p) { return Load(p); }
inline Vec LoadLanes(const std::uint16_t* p) { return LoadBf16(p); }
inline float WidenOne(float x) { return x; }
inline float WidenOne(std::uint16_t x) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x) << 16);
}

/// Elements of VECS vectors, row by row, so that memory is read in order.
template <int VECS, typename Element>
inline void MeanVectors(const MeanArgs& a, std::int64_t d) {
  const Element* row = static_cast<const Element*>(a.rows) + d;
  Vec sums[VECS];
#pragma GCC unroll 4
  for (int v = 0; v < VECS; ++v) sums[v] = Zero();
  for (std::int64_t r = 0; r < a.count; ++r, row += a.stride) {
#pragma GCC unroll 4
    for (int v = 0; v < VECS; ++v) sums[v] = Add(sums[v], LoadLanes(row + v * kLanes));
  }
#pragma GCC unroll 4
  for (int v = 0; v < VECS; ++v) Store(a.out + d + v * kLanes, Mul(sums[v], Set1(a.factor)));
}

template <typename Element>
inline void MeanOf(const MeanArgs& a) {
  std::int64_t d = 0;
  for (; d + 4 * kLanes <= a.dim; d += 4 * kLanes) MeanVectors<4, Element>(a, d);
  for (; d + kLanes <= a.dim; d += kLanes) MeanVectors<1, Element>(a, d);
  for (; d < a.dim; ++d) {
    float sum = 0;
    for (std::int64_t r = 0; r < a.count; ++r) {
      sum += WidenOne(static_cast<const Element*>(a.rows)[r * a.stride + d]);
    }
    a.out[d] = sum * a.factor;
  }
}

void MeanRows(const MeanArgs& a) { a.bf16 ? MeanOf<std::uint16_t>(a) : MeanOf<float>(a); }

/// In place. A NaN makes every element NaN.
void Softmax(float* x, std::int64_t n) {
  const Vec top = Set1(MaxOf(x, n));
  // As SumExp adds: fp32 lanes over 64 vectors at most, then double.
  double total = 0;
  std::int64_t i = 0;
  while (i + kLanes <= n) {
    Vec sum = Zero();
    for (int k = 0; k < 64 && i + kLanes <= n; ++k, i += kLanes) {
      const Vec weights = Exp(Sub(Load(x + i), top));
      Store(x + i, weights);
      sum = Add(sum, weights);
    }
    alignas(64) float lanes[kLanes];
    Store(lanes, sum);
    for (const float lane : lanes) total += static_cast<double>(lane);
  }
  if (i < n) {
    StorePart(x + i, Exp(Sub(LoadPart(x + i, n - i, 0), top)), n - i);
    for (std::int64_t j = i; j < n; ++j) total += static_cast<double>(x[j]);
  }
  const auto inverse = static_cast<float>(1.0 / total);
  ForVectors(
      n, [&](std::int64_t j) { Store(x + j, Mul(Load(x + j), Set1(inverse))); },
      [&](std::int64_t j, std::int64_t rest) {
        for (std::int64_t k = j; k < j + rest; ++k) x[k] *= inverse;
      });
}

}  // namespace
}  // namespace longshadow::cpu

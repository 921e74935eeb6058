#pragma once

#include <cstdint>

#include "longshadow/dtype.h"

/// Bounds on the difference from exact arithmetic, derived and not tuned. u is half a unit in the
/// last place: the relative error of one rounding.
namespace longshadow::conformance {

inline constexpr double kF32Unit = 0x1p-24;
inline constexpr double kBF16Unit = 0x1p-8;

/// Relative error of one rounding to `dtype`.
inline double Unit(DType dtype) { return dtype == DType::kF32 ? kF32Unit : kBF16Unit; }

/// A sum of `terms` products in fp32, in any order: each product is rounded once and passes
/// through at most `terms` additions, so |error| <= (terms + 1) u sum|a b|, to first order; 3
/// more for an added start value, its addition, and second order.
inline double SumTolerance(std::int64_t terms, double sum_of_magnitudes) {
  return (static_cast<double>(terms) + 4) * kF32Unit * sum_of_magnitudes;
}

/// exp and exp2 of the backends: a polynomial and a few roundings. The cpu backend documents
/// 2^-22 for its accurate one and 3e-6 for the one used where probabilities are then rounded to
/// bf16; libm has less.
inline constexpr double kExpF32 = 0x1p-21;
inline constexpr double kExpBf16 = 4e-6;

/// Attention over `keys` keys. With s the scaled scores in natural units,
///   * a score is off by at most ds = SumTolerance(head_dim, max_key sum|q k|) scale, plus the
///     rounding of the shifted exponent, 2 u max|s| (score and maximum);
///   * so a probability is off, relatively, by e = ds + exp's error, plus bf16's unit where
///     probabilities are rounded to bf16 before they meet V;
///   * sums over keys add (keys + 4) u, once for sum p v and once for sum p.
/// |error of o| <= (2 e + 2 (keys + 4) u) mean|v|, mean weighted by p, plus the output's rounding.
struct AttentionBound {
  std::int64_t keys = 0;
  std::int64_t head_dim = 0;
  double score_magnitude = 0;  // max over keys of scale * sum |q_d k_d|
  double value_magnitude = 0;  // sum p |v| / sum p
  double output = 0;           // |o|
};
inline double AttentionTolerance(const AttentionBound& b, DType dtype) {
  const double score =
      SumTolerance(b.head_dim, b.score_magnitude) + 4 * kF32Unit * b.score_magnitude;
  const double weight = score + (dtype == DType::kBF16 ? kExpBf16 + kBF16Unit : kExpF32);
  const double sums = (static_cast<double>(b.keys) + 4) * kF32Unit;
  return 2 * (weight + sums) * b.value_magnitude + 1.01 * Unit(dtype) * b.output + 1e-30;
}

}  // namespace longshadow::conformance

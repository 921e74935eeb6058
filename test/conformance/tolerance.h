#pragma once

#include <algorithm>
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

/// Attention of one row. With s the scaled scores in natural units,
///   * a score is off by at most ds = SumTolerance(head_dim, max_key sum|q k|) scale, plus the
///     rounding of the shifted exponent, 2 u max|s| (score and maximum), twice: in its tile, and
///     where pieces of keys are merged;
///   * so a probability is off, relatively, by e = ds + exp's error, plus bf16's unit where
///     probabilities are rounded to bf16 before they meet V;
///   * sums over keys add value_chain u to sum p v, and weight_chain u to sum p (SumChain).
/// |error of o| <= (2 e + (value_chain + weight_chain) u) mean|v|, mean weighted by p, plus the
/// output's rounding.
struct AttentionBound {
  std::int64_t head_dim = 0;
  double score_magnitude = 0;  // max over keys of scale * sum |q_d k_d|
  double value_magnitude = 0;  // sum p |v| / sum p
  double output = 0;           // |o|
  double value_chain = 0;      // roundings of sum p v
  double weight_chain = 0;     // roundings of sum p
};
inline double AttentionTolerance(const AttentionBound& b, DType dtype) {
  const double score =
      SumTolerance(b.head_dim, b.score_magnitude) + 4 * kF32Unit * b.score_magnitude;
  const double weight = score + (dtype == DType::kBF16 ? kExpBf16 + kBF16Unit : kExpF32);
  const double sums = (b.value_chain + b.weight_chain) * kF32Unit;
  return (2 * weight + sums) * b.value_magnitude + 1.01 * Unit(dtype) * b.output + 1e-30;
}

/// The roundings of one of attention's sums, in units of u times the sum of magnitudes, as the
/// kernels add: in ascending order of keys, in pieces or in one chain, rescaled when a tile of 128
/// keys raises the maximum.
///   * Adding a term t to a partial sum S is off by at most u |S + t|, and, since S itself is a
///     number that the result could be, by at most |t|: a term too small to count costs what it
///     is worth and no more. That is what makes a bound over a million keys mean something.
///   * A rescaling is one rounding of the partial sum; so is each piece that is merged.
///   * 8 more for products that are rounded apart, the lanes' final sum, and second order.
class SumChain {
 public:
  explicit SumChain(double sum_of_magnitudes) : total_(sum_of_magnitudes) {}
  void AddTerm(double magnitude) {
    if (total_ > 0) terms_ += std::min(1.0, magnitude / (kF32Unit * total_));
  }
  double Roundings(std::int64_t rescalings, std::int64_t pieces) const {
    return terms_ + static_cast<double>(rescalings + pieces) + 8;
  }

 private:
  double total_;
  double terms_ = 0;
};

}  // namespace longshadow::conformance

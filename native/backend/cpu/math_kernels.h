// Vector exponentials and the row-wise operations. Include after simd_<isa>.h.
#pragma once

#include "kernels.h"

namespace longshadow::cpu {
namespace {

constexpr float kLog2E = 1.44269504F;
/// Scores of keys that a row may not see. Finite, so that no NaN arises from a difference, and
/// far enough that 2^(kMasked - max) is exactly zero.
constexpr float kMasked = -1e30F;

/// 2^t for t <= 127. Relative error below 2^-22 (polynomial 2e-9, the rest is rounding); exactly
/// 1 at t = 0; results below the normal range may become 0, and are 0 below 2^-149. NaN stays NaN:
/// of two operands, Max and Min give the second where either is NaN.
inline Vec Exp2(Vec t) {
  t = Max(Set1(-250.0F), t);
  const Vec n = Round(t);
  const Vec f = Sub(t, n);
  Vec p = Set1(0.00015353362F);
  p = Fma(p, f, Set1(0.00133988739F));
  p = Fma(p, f, Set1(0.00961843692F));
  p = Fma(p, f, Set1(0.0555033237F));
  p = Fma(p, f, Set1(0.240226477F));
  p = Fma(p, f, Set1(0.693147182F));
  p = Fma(p, f, Set1(1.0F));
  return ScaleByPowerOf2(p, n);
}

/// e^x for x <= 88. Relative error below 2^-22: ln 2 is taken off in two parts, so that the
/// argument's own rounding does not grow with |x|. NaN stays NaN, as in Exp2.
inline Vec Exp(Vec x) {
  x = Min(Set1(88.5F), Max(Set1(-150.0F), x));
  const Vec n = Round(Mul(x, Set1(kLog2E)));
  Vec r = Fma(n, Set1(-0.693145752F), x);
  r = Fma(n, Set1(-1.42860677e-6F), r);
  Vec p = Set1(0.00138436467F);
  p = Fma(p, r, Set1(0.00837416109F));
  p = Fma(p, r, Set1(0.0416680016F));
  p = Fma(p, r, Set1(0.166664317F));
  p = Fma(p, r, Set1(0.49999994F));
  p = Fma(p, r, Set1(1.0F));
  p = Fma(p, r, Set1(1.0F));
  return ScaleByPowerOf2(p, n);
}

/// Calls body(offset) for whole vectors of [0, n), then once for a padded copy of the rest:
/// the callers below hand over buffers, so the rest is done on `kLanes`-wide local arrays.
template <typename Whole, typename Rest>
inline void ForVectors(std::int64_t n, Whole whole, Rest rest) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) whole(i);
  if (i < n) rest(i, n - i);
}

inline Vec LoadPart(const float* p, std::int64_t count, float fill) {
  alignas(64) float part[kLanes];
  for (std::int64_t i = 0; i < kLanes; ++i) part[i] = i < count ? p[i] : fill;
  return Load(part);
}

inline void StorePart(float* p, Vec v, std::int64_t count) {
  alignas(64) float part[kLanes];
  Store(part, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = part[i];
}

void Bf16ToF32(const std::uint16_t* in, float* out, std::int64_t n) {
  ForVectors(
      n, [&](std::int64_t i) { Store(out + i, LoadBf16(in + i)); },
      [&](std::int64_t i, std::int64_t rest) {
        std::uint16_t part[kLanes] = {};
        for (std::int64_t j = 0; j < rest; ++j) part[j] = in[i + j];
        StorePart(out + i, LoadBf16(part), rest);
      });
}

void F32ToBf16(const float* in, std::uint16_t* out, std::int64_t n) {
  ForVectors(
      n, [&](std::int64_t i) { StoreBf16(out + i, Load(in + i)); },
      [&](std::int64_t i, std::int64_t rest) {
        std::uint16_t part[kLanes];
        StoreBf16(part, LoadPart(in + i, rest, 0));
        for (std::int64_t j = 0; j < rest; ++j) out[i + j] = part[j];
      });
}

void RmsNorm(const float* x, const float* weight, float eps, std::int64_t n, float* out) {
  Vec squares = Zero();
  ForVectors(
      n, [&](std::int64_t i) { squares = Fma(Load(x + i), Load(x + i), squares); },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec part = LoadPart(x + i, rest, 0);
        squares = Fma(part, part, squares);
      });
  const float mean = ReduceAdd(squares) / static_cast<float>(n);
  const float root = __builtin_sqrtf(mean + eps);
  const Vec scale = Set1(1.0F / root);
  ForVectors(
      n, [&](std::int64_t i) { Store(out + i, Mul(Mul(Load(x + i), scale), Load(weight + i))); },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec v = Mul(LoadPart(x + i, rest, 0), scale);
        StorePart(out + i, Mul(v, LoadPart(weight + i, rest, 0)), rest);
      });
}

void SiluMul(const float* gate, const float* up, std::int64_t n, float* out) {
  // g / (1 + e^-g); e^-g stays finite, so a large negative gate gives a tiny number, never NaN.
  const auto one = [](Vec g, Vec u) {
    return Mul(Div(g, Add(Set1(1.0F), Exp(Sub(Zero(), g)))), u);
  };
  ForVectors(
      n, [&](std::int64_t i) { Store(out + i, one(Load(gate + i), Load(up + i))); },
      [&](std::int64_t i, std::int64_t rest) {
        StorePart(out + i, one(LoadPart(gate + i, rest, 0), LoadPart(up + i, rest, 0)), rest);
      });
}

void Rope(const float* head, const RopeRowArgs& args, float* out) {
  const std::int64_t half = args.half;
  const auto rotate = [](Vec a, Vec b, Vec c, Vec s, Vec* first, Vec* second) {
    *first = Sub(Mul(a, c), Mul(b, s));
    *second = Add(Mul(b, c), Mul(a, s));
  };
  Vec first;
  Vec second;
  ForVectors(
      half,
      [&](std::int64_t i) {
        rotate(Load(head + i), Load(head + half + i), Load(args.cos + i), Load(args.sin + i),
               &first, &second);
        Store(out + i, first);
        Store(out + half + i, second);
      },
      [&](std::int64_t i, std::int64_t rest) {
        rotate(LoadPart(head + i, rest, 0), LoadPart(head + half + i, rest, 0),
               LoadPart(args.cos + i, rest, 0), LoadPart(args.sin + i, rest, 0), &first, &second);
        StorePart(out + i, first, rest);
        StorePart(out + half + i, second, rest);
      });
  for (std::int64_t i = 2 * half; i < args.head_dim; ++i) out[i] = head[i];
}

float MaxOf(const float* x, std::int64_t n) {
  Vec top = Set1(x[0]);
  ForVectors(
      n, [&](std::int64_t i) { top = Max(Load(x + i), top); },
      [&](std::int64_t i, std::int64_t rest) { top = Max(LoadPart(x + i, rest, x[i]), top); });
  return ReduceMax(top);
}

double SumExp(const float* x, float max, std::int64_t n) {
  // fp32 lanes over 64 vectors at most, then double: the error does not grow with n.
  const Vec shift = Set1(max);
  double total = 0;
  std::int64_t i = 0;
  while (i + kLanes <= n) {
    Vec sum = Zero();
    for (int k = 0; k < 64 && i + kLanes <= n; ++k, i += kLanes) {
      sum = Add(sum, Exp(Sub(Load(x + i), shift)));
    }
    alignas(64) float lanes[kLanes];
    Store(lanes, sum);
    for (const float lane : lanes) total += static_cast<double>(lane);
  }
  if (i < n) {
    alignas(64) float lanes[kLanes];
    Store(lanes, Exp(Sub(LoadPart(x + i, n - i, 0), shift)));
    for (std::int64_t j = 0; j < n - i; ++j) total += static_cast<double>(lanes[j]);
  }
  return total;
}

std::int64_t CountAbove(const float* x, float value, std::int64_t n) {
  std::int64_t count = 0;
  const Vec limit = Set1(value);
  ForVectors(
      n, [&](std::int64_t i) { count += CountGreater(Load(x + i), limit); },
      [&](std::int64_t i, std::int64_t rest) {
        for (std::int64_t j = 0; j < rest; ++j) count += x[i + j] > value ? 1 : 0;
      });
  return count;
}

}  // namespace
}  // namespace longshadow::cpu

// Bounds of keys, and what they say of key blocks: the pattern kKeyBounds. Include after
// block_kernels.h.
#pragma once

#include "block_kernels.h"

namespace longshadow::cpu {
namespace {

/// `count` rows' elements [d, d + kLanes), or with one lane as a scalar.
template <typename Element>
inline void BoundVector(const BoundArgs& a, std::int64_t d) {
  const Element* row = static_cast<const Element*>(a.rows) + d;
  Vec low = LoadLanes(row);
  Vec high = low;
  // Max and Min pass over a NaN in their first operand; x * 0 keeps it, and finds infinities.
  Vec wrong = Mul(low, Zero());
  for (std::int64_t r = 1; r < a.count; ++r) {
    const Vec x = LoadLanes(row + r * a.stride);
    low = Min(x, low);
    high = Max(x, high);
    wrong = Fma(x, Zero(), wrong);
  }
  const Vec half = Set1(0.5F);
  Store(a.middle + d, Fma(half, Add(low, high), wrong));
  Store(a.reach + d, Fma(half, Sub(high, low), wrong));
}

template <typename Element>
inline void BoundElement(const BoundArgs& a, std::int64_t d) {
  const Element* row = static_cast<const Element*>(a.rows) + d;
  float low = WidenOne(row[0]);
  float high = low;
  float wrong = low * 0.0F;
  for (std::int64_t r = 1; r < a.count; ++r) {
    const float x = WidenOne(row[r * a.stride]);
    low = x < low ? x : low;
    high = x > high ? x : high;
    wrong += x * 0.0F;
  }
  a.middle[d] = 0.5F * (low + high) + wrong;
  a.reach[d] = 0.5F * (high - low) + wrong;
}

template <typename Element>
inline void BoundsOf(const BoundArgs& a) {
  std::int64_t d = 0;
  for (; d + kLanes <= a.dim; d += kLanes) BoundVector<Element>(a, d);
  for (; d < a.dim; ++d) BoundElement<Element>(a, d);
}

void BoundRows(const BoundArgs& a) { a.bf16 ? BoundsOf<std::uint16_t>(a) : BoundsOf<float>(a); }

constexpr std::int64_t kGroups = 4;
constexpr std::int64_t kQueries = 16;
constexpr int kQueryVecs = kQueries / kLanes;
/// Blocks whose sums fill the registers: 8 of them, as many as hide the latency of a product.
constexpr int kBlocksTogether = 8 / (kGroups * kQueryVecs);

/// Logits of BLOCKS key blocks from args.blocks[at] on.
template <int BLOCKS>
inline void BoundLogits(const ScoreBoundsArgs& a, std::int64_t at) {
  const float* bounds[BLOCKS];
  Vec sums[BLOCKS][kGroups][kQueryVecs];
#pragma GCC unroll 8
  for (int b = 0; b < BLOCKS; ++b) {
    bounds[b] = a.bounds + a.blocks[at + b] * a.features * kGroups;
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
      for (int v = 0; v < kQueryVecs; ++v) sums[b][g][v] = Zero();
    }
  }
  for (std::int64_t f = 0; f < a.features; ++f) {
#pragma GCC unroll 8
    for (int v = 0; v < kQueryVecs; ++v) {
      const Vec queries = Load(a.queries + f * kQueries + v * kLanes);
#pragma GCC unroll 8
      for (int b = 0; b < BLOCKS; ++b) {
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) {
          sums[b][g][v] = Fma(queries, Set1(bounds[b][f * kGroups + g]), sums[b][g][v]);
        }
      }
    }
  }
  float* out = a.logits + at * kGroups * kQueries;
  for (int b = 0; b < BLOCKS; ++b) {
    for (int g = 0; g < kGroups; ++g) {
      for (int v = 0; v < kQueryVecs; ++v, out += kLanes) Store(out, sums[b][g][v]);
    }
  }
}

/// Log-sum-exp of each query's logits: [16]. fp32 sums of 64 logits at most, then double.
inline void QueryNormalisers(const float* logits, std::int64_t count, float* normalisers) {
  for (int v = 0; v < kQueryVecs; ++v) {
    const float* column = logits + v * kLanes;
    Vec top = Load(column);
    for (std::int64_t i = 1; i < count; ++i) top = Max(Load(column + i * kQueries), top);
    double sums[kLanes] = {};
    alignas(64) float part[kLanes];
    for (std::int64_t i = 0; i < count; i += 64) {
      Vec sum = Zero();
      for (std::int64_t j = i; j < i + 64 && j < count; ++j) {
        sum = Add(sum, Exp(Sub(Load(column + j * kQueries), top)));
      }
      Store(part, sum);
      for (int lane = 0; lane < kLanes; ++lane) sums[lane] += static_cast<double>(part[lane]);
    }
    Store(part, top);
    for (int lane = 0; lane < kLanes; ++lane) {
      normalisers[v * kLanes + lane] = part[lane] + static_cast<float>(__builtin_log(sums[lane]));
    }
  }
}

void ScoreBounds(const ScoreBoundsArgs& a) {
  std::int64_t at = 0;
  for (; at + kBlocksTogether <= a.count; at += kBlocksTogether) {
    BoundLogits<kBlocksTogether>(a, at);
  }
  for (; at < a.count; ++at) BoundLogits<1>(a, at);
  alignas(64) float normalisers[kQueries];
  QueryNormalisers(a.logits, a.count * kGroups, normalisers);
  for (std::int64_t b = 0; b < a.count; ++b) {
    const float* logits = a.logits + b * kGroups * kQueries;
    Vec best = Set1(-__builtin_inff());
    for (int v = 0; v < kQueryVecs; ++v) {
      Vec block = Load(logits + v * kLanes);
      for (int g = 1; g < kGroups; ++g)
        block = Max(Load(logits + g * kQueries + v * kLanes), block);
      best = Max(Sub(block, Load(normalisers + v * kLanes)), best);
    }
    a.scores[b] = ReduceMax(best);
  }
  for (const float normaliser : normalisers) {
    if (normaliser != normaliser) a.scores[0] = normaliser;
  }
}

void LargerDifference(const float* x, float shift, std::int64_t n, float* out) {
  const Vec by = Set1(shift);
  ForVectors(
      n, [&](std::int64_t i) { Store(out + i, Max(Load(out + i), Sub(Load(x + i), by))); },
      [&](std::int64_t i, std::int64_t rest) {
        StorePart(out + i, Max(LoadPart(out + i, rest, 0), Sub(LoadPart(x + i, rest, 0), by)),
                  rest);
      });
}

}  // namespace
}  // namespace longshadow::cpu

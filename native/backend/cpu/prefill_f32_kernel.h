// Exact causal attention of a block of rows, fp32 arithmetic. Include after math_kernels.h.
//
// Lanes are queries: scores are kept transposed, S^T [key][lane], so that the softmax's row
// maximum and sum are element-wise over vectors, and a key's elements are broadcast. For each
// tile of 64 keys and each head of the group:
//   S^T = K Q^T,  m' = max(m, max_key S),  P = 2^(S - m'),  l = l 2^(m - m') + sum P,
//   O^T = O^T 2^(m - m') + V^T P.
// Tiles go over keys in ascending order from key 0, and a lane never mixes with another: a row's
// bits do not depend on the block that it is in.
#pragma once

#include "math_kernels.h"

namespace longshadow::cpu {
namespace {

constexpr std::int32_t kF32Vecs = kLanes == 16 ? 4 : 2;
constexpr std::int32_t kF32Keys = 4;  // of a register tile
/// Keys of one tile: its K or V in fp32 (head_dim 64) and its scores fit a first-level cache
/// together.
constexpr std::int32_t kF32TileKeys = 64;
static_assert(kTileKeys % kF32TileKeys == 0, "a tile never crosses a page");

struct F32PrefillScratch {
  float* q;       // [heads][head_dim][64]
  float* o;       // [heads][head_dim][64]
  float* max;     // [heads][64], in units of log2
  float* sum;     // [heads][64]
  float* scores;  // [64][64]
  float* k;       // [64][head_dim], when the cache is bf16
  float* v;       // [64][head_dim]
};

std::int64_t F32PrefillFloats(std::int64_t head_dim, std::int64_t heads) {
  return 2 * heads * head_dim * kBlockRows + 2 * heads * kBlockRows + kF32TileKeys * kBlockRows +
         2 * kF32TileKeys * head_dim;
}

inline F32PrefillScratch LayOutF32(const PrefillArgs& a) {
  F32PrefillScratch s;
  const std::int64_t matrix = static_cast<std::int64_t>(a.heads) * a.head_dim * kBlockRows;
  s.q = static_cast<float*>(a.scratch);
  s.o = s.q + matrix;
  s.max = s.o + matrix;
  s.sum = s.max + a.heads * kBlockRows;
  s.scores = s.sum + a.heads * kBlockRows;
  s.k = s.scores + kF32TileKeys * kBlockRows;
  s.v = s.k + kF32TileKeys * a.head_dim;
  return s;
}

inline float ReadElement(const void* data, bool bf16, std::int64_t i) {
  if (!bf16) return static_cast<const float*>(data)[i];
  const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(data)[i])
                             << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

inline void LoadQueriesF32(const PrefillArgs& a, const F32PrefillScratch& s) {
  for (std::int64_t h = 0; h < a.heads; ++h) {
    for (std::int64_t d = 0; d < a.head_dim; ++d) {
      float* to = s.q + (h * a.head_dim + d) * kBlockRows;
      for (std::int64_t r = 0; r < kBlockRows; ++r) {
        to[r] = r < a.rows ? ReadElement(a.q, a.q_bf16, r * a.q_stride + h * a.head_dim + d) : 0;
      }
    }
  }
  for (std::int64_t i = 0; i < a.heads * kBlockRows; ++i) {
    s.max[i] = kMasked;
    s.sum[i] = 0;
  }
  for (std::int64_t i = 0; i < a.heads * a.head_dim * kBlockRows; ++i) s.o[i] = 0;
}

/// A key tile of one plane as fp32 rows: in place, or converted into `scratch`.
inline const float* TileF32(const std::byte* plane, bool bf16, std::int64_t first_key,
                            std::int64_t keys, std::int64_t head_dim, float* scratch) {
  const std::int64_t offset = first_key * head_dim;
  if (!bf16) return reinterpret_cast<const float*>(plane) + offset;
  Bf16ToF32(reinterpret_cast<const std::uint16_t*>(plane) + offset, scratch, keys * head_dim);
  return scratch;
}

/// scores[key][lanes] = k[key] . q[lanes] for kF32Keys keys (fewer at the end of a tile).
template <int KEYS, int VECS>
inline void ScoresF32(const float* k, std::int64_t head_dim, const float* q, float* scores) {
  Vec acc[KEYS][VECS];
#pragma GCC unroll 8
  for (int j = 0; j < KEYS; ++j) {
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) acc[j][v] = Zero();
  }
  for (std::int64_t d = 0; d < head_dim; ++d) {
    Vec queries[VECS];
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) queries[v] = Load(q + d * kBlockRows + v * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < KEYS; ++j) {
      const Vec key = Set1(k[j * head_dim + d]);
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) acc[j][v] = Fma(key, queries[v], acc[j][v]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < KEYS; ++j) {
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) Store(scores + j * kBlockRows + v * kLanes, acc[j][v]);
  }
}

/// Online softmax of VECS vectors of lanes over a tile; alpha: 2^(old max - new max).
/// Vectors go side by side, since each one's maximum and sum are chains over the keys.
/// limits: per lane, the last key of the tile that it may see; null when all may be seen.
template <int VECS>
inline void SoftmaxF32(float* scores, std::int64_t keys, float scale_log2,
                       const std::int32_t* limits, float* max, float* sum, Vec (&alpha)[VECS]) {
  const Vec scale = Set1(scale_log2);
  Vec top[VECS];
  for (int i = 0; i < VECS; ++i) top[i] = Set1(kMasked);
  for (std::int64_t j = 0; j < keys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < VECS; ++i) {
      float* at = scores + j * kBlockRows + i * kLanes;
      Vec s = Load(at);
      if (limits != nullptr) {
        s = Max(Set1(kMasked), MaskAbove(s, limits + i * kLanes, static_cast<std::int32_t>(j)));
        Store(at, s);
      }
      top[i] = Max(top[i], s);
    }
  }
  Vec total[VECS];
  Vec shift[VECS];
  for (int i = 0; i < VECS; ++i) {
    const Vec old = Load(max + i * kLanes);
    top[i] = Max(Mul(top[i], scale), old);
    alpha[i] = Exp2(Sub(old, top[i]));
    total[i] = Mul(Load(sum + i * kLanes), alpha[i]);
    shift[i] = Sub(Zero(), top[i]);
    Store(max + i * kLanes, top[i]);
  }
  for (std::int64_t j = 0; j < keys; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < VECS; ++i) {
      float* at = scores + j * kBlockRows + i * kLanes;
      const Vec p = Exp2(Fma(Load(at), scale, shift[i]));
      total[i] = Add(total[i], p);
      Store(at, p);
    }
  }
  for (int i = 0; i < VECS; ++i) Store(sum + i * kLanes, total[i]);
}

/// o[DIMS][lanes] = o * alpha + sum over keys of v[key][DIMS] p[key][lanes].
template <int DIMS, int VECS>
inline void ValuesF32(const float* v, std::int64_t head_dim, const float* p, std::int64_t keys,
                      const Vec (&alpha)[VECS], float* o) {
  Vec acc[DIMS][VECS];
#pragma GCC unroll 8
  for (int d = 0; d < DIMS; ++d) {
#pragma GCC unroll 8
    for (int i = 0; i < VECS; ++i) {
      acc[d][i] = Mul(Load(o + d * kBlockRows + i * kLanes), alpha[i]);
    }
  }
  for (std::int64_t j = 0; j < keys; ++j) {
    Vec weights[VECS];
#pragma GCC unroll 8
    for (int i = 0; i < VECS; ++i) weights[i] = Load(p + j * kBlockRows + i * kLanes);
#pragma GCC unroll 8
    for (int d = 0; d < DIMS; ++d) {
      const Vec value = Set1(v[j * head_dim + d]);
#pragma GCC unroll 8
      for (int i = 0; i < VECS; ++i) acc[d][i] = Fma(value, weights[i], acc[d][i]);
    }
  }
#pragma GCC unroll 8
  for (int d = 0; d < DIMS; ++d) {
#pragma GCC unroll 8
    for (int i = 0; i < VECS; ++i) Store(o + d * kBlockRows + i * kLanes, acc[d][i]);
  }
}

/// What a caller does beside a tile's arithmetic, in small parts between its register tiles: here
/// nothing.
struct NoAside {
  /// Before scores of the keys [first, first + count); keys that are left over do not call.
  void AtKeys(std::int64_t, std::int64_t) const {}
  /// Before values of the dimensions [first, first + count).
  void AtValues(std::int64_t, std::int64_t) const {}
};

/// One key tile for the lanes [lane, lane + VECS * kLanes) of one head.
template <int VECS, typename Aside>
inline void TileStepF32(const PrefillArgs& a, const F32PrefillScratch& s, std::int64_t head,
                        std::int64_t lane, const float* k, const float* v, std::int64_t keys,
                        const std::int32_t* limits, const Aside& aside) {
  const std::int64_t at = head * a.head_dim * kBlockRows + lane;
  float* scores = s.scores + lane;
  std::int64_t j = 0;
  for (; j + kF32Keys <= keys; j += kF32Keys) {
    aside.AtKeys(j, kF32Keys);
    ScoresF32<kF32Keys, VECS>(k + j * a.head_dim, a.head_dim, s.q + at, scores + j * kBlockRows);
  }
  for (; j < keys; ++j) {
    ScoresF32<1, VECS>(k + j * a.head_dim, a.head_dim, s.q + at, scores + j * kBlockRows);
  }
  const std::int64_t state = head * kBlockRows + lane;
  Vec alpha[VECS];
  SoftmaxF32<VECS>(scores, keys, a.scale * kLog2E, limits == nullptr ? nullptr : limits + lane,
                   s.max + state, s.sum + state, alpha);
  for (std::int64_t d = 0; d < a.head_dim; d += kF32Keys) {
    aside.AtValues(d, kF32Keys);
    ValuesF32<kF32Keys, VECS>(v + d, a.head_dim, scores, keys, alpha, s.o + at + d * kBlockRows);
  }
}

/// limits[r] = the last key of the tile at `tile` that row r may see (padding rows: row rows - 1).
inline void TileLimits(const PrefillArgs& a, std::int64_t tile, std::int32_t* limits) {
  for (std::int32_t r = 0; r < kBlockRows; ++r) {
    const std::int32_t row = r < a.rows ? r : a.rows - 1;
    const std::int64_t last = a.position + row - tile;
    limits[r] = last < -1 ? -1 : static_cast<std::int32_t>(last < kTileKeys ? last : kTileKeys);
  }
}

/// out = O / l. `o` is [heads][head_dim][64], `sum` [heads][64].
inline void StoreAttention(const PrefillArgs& a, const float* o, const float* sum) {
  alignas(64) float row[256];
  for (std::int64_t h = 0; h < a.heads; ++h) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const float* column = o + h * a.head_dim * kBlockRows + r;
      const float inverse = 1.0F / sum[h * kBlockRows + r];
      const std::int64_t at = r * a.out_stride + h * a.head_dim;
      for (std::int64_t d = 0; d < a.head_dim; ++d) row[d] = column[d * kBlockRows] * inverse;
      if (a.out_bf16) {
        F32ToBf16(row, static_cast<std::uint16_t*>(a.out) + at, a.head_dim);
      } else {
        float* out = static_cast<float*>(a.out) + at;
        for (std::int64_t d = 0; d < a.head_dim; ++d) out[d] = row[d];
      }
    }
  }
}

void PrefillF32(const PrefillArgs& a) {
  const F32PrefillScratch s = LayOutF32(a);
  LoadQueriesF32(a, s);
  constexpr std::int64_t kPage = 512;
  const std::int64_t key_end = a.position + a.rows;
  alignas(64) std::int32_t limits[kBlockRows];
  // Half as many lanes at once where the rows do not fill more.
  const bool few = a.rows <= kF32Vecs / 2 * kLanes;
  const auto step = few ? TileStepF32<kF32Vecs / 2, NoAside> : TileStepF32<kF32Vecs, NoAside>;
  for (std::int64_t tile = 0; tile < key_end; tile += kF32TileKeys) {
    const std::int64_t keys = key_end - tile < kF32TileKeys ? key_end - tile : kF32TileKeys;
    const bool masked = tile + keys - 1 > a.position;
    if (masked) TileLimits(a, tile, limits);
    const std::byte* k_plane = a.k_pages[tile / kPage] + a.plane_offset;
    const std::byte* v_plane = a.v_pages[tile / kPage] + a.plane_offset;
    const float* k = TileF32(k_plane, a.kv_bf16, tile % kPage, keys, a.head_dim, s.k);
    const float* v = TileF32(v_plane, a.kv_bf16, tile % kPage, keys, a.head_dim, s.v);
    for (std::int64_t h = 0; h < a.heads; ++h) {
      for (std::int64_t lane = 0; lane < a.rows; lane += kF32Vecs * kLanes) {
        step(a, s, h, lane, k, v, keys, masked ? limits : nullptr, NoAside{});
      }
    }
  }
  StoreAttention(a, s.o, s.sum);
}

}  // namespace
}  // namespace longshadow::cpu

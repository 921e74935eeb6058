// Attention of a few rows over a range of keys, fp32 arithmetic. Include after math_kernels.h.
//
// Memory-bound: each key and value row is read once for all queries (rows x heads of the group).
// Lanes are elements of a row; a tile of 128 keys is scored, passed through the online softmax,
// and its values are added before the next tile. Nothing depends on how many queries there are.
#pragma once

#include "prefill_f32_kernel.h"

namespace longshadow::cpu {
namespace {

struct DecodeScratch {
  float* q;       // [queries][padded head_dim], zero-padded
  float* o;       // [queries][padded head_dim]
  float* scores;  // [queries][128]
  float* max;     // [queries]
  float* sum;     // [queries]
  float* alpha;   // [queries]
  float* rows;    // [128][padded head_dim]: rows that do not fill whole vectors
};

inline std::int64_t PaddedDim(std::int64_t head_dim) { return (head_dim + 31) / 32 * 32; }

std::int64_t DecodeFloats(std::int64_t head_dim, std::int64_t queries) {
  const std::int64_t stats = (queries + 15) / 16 * 16;
  return 2 * queries * PaddedDim(head_dim) + queries * kTileKeys + 3 * stats +
         kTileKeys * PaddedDim(head_dim);
}

inline DecodeScratch LayOutDecode(const DecodeArgs& a) {
  const std::int64_t queries = static_cast<std::int64_t>(a.rows) * a.heads;
  const std::int64_t padded = PaddedDim(a.head_dim);
  const std::int64_t stats = (queries + 15) / 16 * 16;
  DecodeScratch s;
  s.q = static_cast<float*>(a.scratch);
  s.o = s.q + queries * padded;
  s.scores = s.o + queries * padded;
  s.rows = s.scores + queries * kTileKeys;
  s.max = s.rows + kTileKeys * padded;
  s.sum = s.max + stats;
  s.alpha = s.sum + stats;
  return s;
}

inline void StartDecode(const DecodeArgs& a, const DecodeScratch& s) {
  const std::int64_t padded = PaddedDim(a.head_dim);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t query = r * a.heads + h;
      for (std::int64_t d = 0; d < padded; ++d) {
        s.o[query * padded + d] = 0;
        s.q[query * padded + d] =
            d < a.head_dim ? ReadElement(a.q, a.q_bf16, r * a.q_stride + h * a.head_dim + d) : 0;
      }
      s.max[query] = kMasked;
      s.sum[query] = 0;
    }
  }
}

/// Keys of the tile at `tile` that query row `row` may see, 0..keys.
inline std::int64_t VisibleKeys(const DecodeArgs& a, std::int64_t row, std::int64_t tile,
                                std::int64_t keys) {
  const std::int64_t visible = a.position + row + 1 - tile;
  return visible < 0 ? 0 : (visible < keys ? visible : keys);
}

/// The online softmax of one query over a tile: scores become probabilities (0 past `visible`),
/// up to a multiple of two vectors. Leaves 2^(old max - new max) in alpha.
inline void SoftmaxDecode(const DecodeArgs& a, const DecodeScratch& s, std::int64_t query,
                          std::int64_t tile, std::int64_t keys) {
  const std::int64_t visible = VisibleKeys(a, query / a.heads, tile, keys);
  float* scores = s.scores + query * kTileKeys;
  for (std::int64_t j = visible; j < kTileKeys; ++j) scores[j] = kMasked;
  Vec tops = Load(scores);
  for (std::int64_t j = kLanes; j < kTileKeys; j += kLanes) tops = Max(tops, Load(scores + j));
  const float scale = a.scale * kLog2E;
  const float scaled = ReduceMax(tops) * scale;
  const float old = s.max[query];
  const float top = visible > 0 && scaled > old ? scaled : old;
  alignas(64) float alphas[kLanes];
  Store(alphas, Exp2(Set1(old - top)));
  Vec total = Zero();
  const Vec shift = Set1(-top);
  for (std::int64_t j = 0; j < kTileKeys; j += kLanes) {
    // A tile that shows the query nothing has max kMasked too: its probabilities must be zero.
    const Vec p = visible > 0 ? Exp2(Fma(Load(scores + j), Set1(scale), shift)) : Zero();
    total = Add(total, p);
    Store(scores + j, p);
  }
  s.alpha[query] = alphas[0];
  s.max[query] = top;
  s.sum[query] = s.sum[query] * alphas[0] + ReduceAdd(total);
}

template <bool BF16>
inline Vec LoadKv(const void* row, std::int64_t i) {
  if constexpr (BF16) {
    return LoadBf16(static_cast<const std::uint16_t*>(row) + i);
  } else {
    return Load(static_cast<const float*>(row) + i);
  }
}

/// A tile's rows as vectors: in place when they fill whole vectors, else copied, zero-padded.
struct DecodeTile {
  const std::byte* data;
  std::int64_t stride;  // bytes between rows
  std::int64_t dim;     // elements of a row, a multiple of kLanes
  bool bf16;
};

inline DecodeTile OpenTile(const DecodeArgs& a, std::byte* const* pages, std::int64_t tile,
                           std::int64_t keys, float* rows) {
  constexpr std::int64_t kPage = 512;
  const std::int64_t row_bytes = a.head_dim * (a.kv_bf16 ? 2 : 4);
  const std::byte* data = pages[tile / kPage] + a.plane_offset + tile % kPage * row_bytes;
  if (a.head_dim % kLanes == 0) return {data, row_bytes, a.head_dim, a.kv_bf16};
  const std::int64_t padded = PaddedDim(a.head_dim);
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t d = 0; d < padded; ++d) {
      rows[j * padded + d] = d < a.head_dim ? ReadElement(data + j * row_bytes, a.kv_bf16, d) : 0;
    }
  }
  return {reinterpret_cast<const std::byte*>(rows), padded * 4, padded, false};
}

template <bool BF16>
inline void ScoreTile(const DecodeTile& t, std::int64_t keys, const float* q, std::int64_t padded,
                      float* scores) {
  for (std::int64_t j = 0; j < keys; j += kLanes) {
    Vec dots[kLanes];
    for (std::int64_t i = 0; i < kLanes; ++i) {
      const std::int64_t key = j + i < keys ? j + i : keys - 1;
      const std::byte* row = t.data + key * t.stride;
      Vec dot = Zero();
      for (std::int64_t d = 0; d < t.dim; d += kLanes) {
        dot = Fma(LoadKv<BF16>(row, d), Load(q + d), dot);
      }
      dots[i] = dot;
    }
    Store(scores + j, ReduceEach(dots));
  }
  (void)padded;
}

/// o[dim] = o * alpha + sum_j p[j] v[j][dim], two vectors of dim at a time.
template <bool BF16>
inline void AddValues(const DecodeTile& t, std::int64_t keys, const float* p, float alpha,
                      float* o) {
  for (std::int64_t d = 0; d < t.dim; d += kLanes) {
    Vec sum = Mul(Load(o + d), Set1(alpha));
    for (std::int64_t j = 0; j < keys; ++j) {
      sum = Fma(Set1(p[j]), LoadKv<BF16>(t.data + j * t.stride, d), sum);
    }
    Store(o + d, sum);
  }
}

inline void FinishDecode(const DecodeArgs& a, const DecodeScratch& s) {
  const std::int64_t queries = static_cast<std::int64_t>(a.rows) * a.heads;
  for (std::int64_t query = 0; query < queries; ++query) {
    for (std::int64_t d = 0; d < a.head_dim; ++d) {
      a.o[query * a.head_dim + d] = s.o[query * PaddedDim(a.head_dim) + d];
    }
    a.max[query] = s.max[query];
    a.sum[query] = s.sum[query];
  }
}

void DecodeF32(const DecodeArgs& a) {
  const DecodeScratch s = LayOutDecode(a);
  StartDecode(a, s);
  const std::int64_t queries = static_cast<std::int64_t>(a.rows) * a.heads;
  const std::int64_t padded = PaddedDim(a.head_dim);
  for (std::int64_t tile = a.key_begin; tile < a.key_end; tile += kTileKeys) {
    const std::int64_t keys = a.key_end - tile < kTileKeys ? a.key_end - tile : kTileKeys;
    const DecodeTile k = OpenTile(a, a.k_pages, tile, keys, s.rows);
    for (std::int64_t query = 0; query < queries; ++query) {
      const auto score = k.bf16 ? ScoreTile<true> : ScoreTile<false>;
      score(k, keys, s.q + query * padded, padded, s.scores + query * kTileKeys);
      SoftmaxDecode(a, s, query, tile, keys);
    }
    const DecodeTile v = OpenTile(a, a.v_pages, tile, keys, s.rows);
    for (std::int64_t query = 0; query < queries; ++query) {
      const auto add = v.bf16 ? AddValues<true> : AddValues<false>;
      add(v, keys, s.scores + query * kTileKeys, s.alpha[query], s.o + query * padded);
    }
  }
  FinishDecode(a, s);
}

}  // namespace
}  // namespace longshadow::cpu

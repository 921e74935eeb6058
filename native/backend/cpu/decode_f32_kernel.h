// Attention of a few rows over a range of keys, fp32 arithmetic. Include after math_kernels.h.
//
// Memory-bound: each key and value row is read once for all queries (rows x heads of the group).
// Lanes are elements of a row, two vectors at a time. A bf16 row is split into its even and its
// odd elements (a shift and a mask, cheaper than widening); queries and outputs then have that
// order too: [even 0..][odd 0..] in each run of two vectors. A tile of 128 keys is scored, passed
// through the online softmax, and its values are added before the next tile. Nothing depends on how
// many queries there are.
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

constexpr std::int64_t kRun = 2 * kLanes;  // elements of a row that are loaded together

/// Whether rows are read in place; else they are copied, converted and zero-padded.
inline bool InPlace(const DecodeArgs& a) { return a.head_dim % kRun == 0; }

/// Where element d of a head is kept in q and o.
inline std::int64_t Slot(const DecodeArgs& a, std::int64_t d) {
  if (!a.kv_bf16 || !InPlace(a)) return d;
  return d / kRun * kRun + d % 2 * kLanes + d % kRun / 2;
}

inline void StartDecode(const DecodeArgs& a, const DecodeScratch& s) {
  const std::int64_t padded = PaddedDim(a.head_dim);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t query = r * a.heads + h;
      for (std::int64_t d = 0; d < padded; ++d) {
        s.o[query * padded + d] = 0;
        s.q[query * padded + (d < a.head_dim ? Slot(a, d) : d)] =
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
inline void LoadRun(const std::byte* row, std::int64_t d, Vec* first, Vec* second) {
  if constexpr (BF16) {
    LoadEvenOdd(reinterpret_cast<const std::uint16_t*>(row) + d, first, second);
  } else {
    *first = Load(reinterpret_cast<const float*>(row) + d);
    *second = Load(reinterpret_cast<const float*>(row) + d + kLanes);
  }
}

/// A tile's rows as runs of two vectors.
struct DecodeTile {
  const std::byte* data;
  std::int64_t stride;  // bytes between rows
  std::int64_t dim;     // elements of a row, a multiple of kRun
  bool bf16;
};

inline const std::byte* TileData(const DecodeArgs& a, std::byte* const* pages, std::int64_t tile) {
  constexpr std::int64_t kPage = 512;
  return pages[tile / kPage] + a.plane_offset + tile % kPage * a.head_dim * (a.kv_bf16 ? 2 : 4);
}

inline DecodeTile OpenTile(const DecodeArgs& a, std::byte* const* pages, std::int64_t tile,
                           std::int64_t keys, float* rows) {
  const std::int64_t row_bytes = a.head_dim * (a.kv_bf16 ? 2 : 4);
  const std::byte* data = TileData(a, pages, tile);
  if (InPlace(a)) return {data, row_bytes, a.head_dim, a.kv_bf16};
  const std::int64_t padded = PaddedDim(a.head_dim);
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t d = 0; d < padded; ++d) {
      rows[j * padded + d] = d < a.head_dim ? ReadElement(data + j * row_bytes, a.kv_bf16, d) : 0;
    }
  }
  return {reinterpret_cast<const std::byte*>(rows), padded * 4, padded, false};
}

/// Asks for rows [j, j + kLanes) of a tile that is read next; `next` is null when there is none.
inline void PrefetchRows(const std::byte* next, std::int64_t j, std::int64_t stride) {
  if (next == nullptr) return;
  const std::byte* begin = next + j * stride;
  for (std::int64_t at = 0; at < kLanes * stride; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(begin + at), _MM_HINT_T0);
  }
}

/// scores[query][key] = q[query] . k[key] for QUERIES queries; a key is loaded once for them all.
template <int QUERIES, bool BF16>
inline void ScoreTile(const DecodeTile& t, std::int64_t keys, const float* q, std::int64_t padded,
                      float* scores, const std::byte* next) {
  for (std::int64_t j = 0; j < keys; j += kLanes) {
    PrefetchRows(next, j, t.stride);
    Vec dots[QUERIES][kLanes];
    for (std::int64_t i = 0; i < kLanes; ++i) {
      const std::int64_t key = j + i < keys ? j + i : keys - 1;
      const std::byte* row = t.data + key * t.stride;
      Vec sums[QUERIES];
#pragma GCC unroll 4
      for (int n = 0; n < QUERIES; ++n) sums[n] = Zero();
      for (std::int64_t d = 0; d < t.dim; d += kRun) {
        Vec first;
        Vec second;
        LoadRun<BF16>(row, d, &first, &second);
#pragma GCC unroll 4
        for (int n = 0; n < QUERIES; ++n) {
          sums[n] = Fma(first, Load(q + n * padded + d), sums[n]);
          sums[n] = Fma(second, Load(q + n * padded + d + kLanes), sums[n]);
        }
      }
#pragma GCC unroll 4
      for (int n = 0; n < QUERIES; ++n) dots[n][i] = sums[n];
    }
    for (int n = 0; n < QUERIES; ++n) Store(scores + n * kTileKeys + j, ReduceEach(dots[n]));
  }
}

/// o[query] = o[query] * alpha + sum_j p[query][j] v[j] for QUERIES queries, run by run.
template <int QUERIES, bool BF16>
inline void AddValues(const DecodeTile& t, std::int64_t keys, const float* p, const float* alpha,
                      std::int64_t padded, float* o, const std::byte* next) {
  for (std::int64_t d = 0; d < t.dim; d += kRun) {
    Vec sums[QUERIES][2];
#pragma GCC unroll 4
    for (int n = 0; n < QUERIES; ++n) {
      sums[n][0] = Mul(Load(o + n * padded + d), Set1(alpha[n]));
      sums[n][1] = Mul(Load(o + n * padded + d + kLanes), Set1(alpha[n]));
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      if (d == 0 && j % kLanes == 0) PrefetchRows(next, j, t.stride);
      Vec first;
      Vec second;
      LoadRun<BF16>(t.data + j * t.stride, d, &first, &second);
#pragma GCC unroll 4
      for (int n = 0; n < QUERIES; ++n) {
        const Vec weight = Set1(p[n * kTileKeys + j]);
        sums[n][0] = Fma(weight, first, sums[n][0]);
        sums[n][1] = Fma(weight, second, sums[n][1]);
      }
    }
#pragma GCC unroll 4
    for (int n = 0; n < QUERIES; ++n) {
      Store(o + n * padded + d, sums[n][0]);
      Store(o + n * padded + d + kLanes, sums[n][1]);
    }
  }
}

template <int QUERIES>
inline void ScoreQueries(const DecodeTile& k, std::int64_t keys, std::int64_t padded,
                         const DecodeScratch& s, std::int64_t query, const std::byte* next) {
  const auto score = k.bf16 ? ScoreTile<QUERIES, true> : ScoreTile<QUERIES, false>;
  score(k, keys, s.q + query * padded, padded, s.scores + query * kTileKeys, next);
}

template <int QUERIES>
inline void AddQueries(const DecodeTile& v, std::int64_t keys, std::int64_t padded,
                       const DecodeScratch& s, std::int64_t query, const std::byte* next) {
  const auto add = v.bf16 ? AddValues<QUERIES, true> : AddValues<QUERIES, false>;
  add(v, keys, s.scores + query * kTileKeys, s.alpha + query, padded, s.o + query * padded, next);
}

inline void FinishDecode(const DecodeArgs& a, const DecodeScratch& s) {
  const std::int64_t queries = static_cast<std::int64_t>(a.rows) * a.heads;
  for (std::int64_t query = 0; query < queries; ++query) {
    for (std::int64_t d = 0; d < a.head_dim; ++d) {
      a.o[query * a.head_dim + d] = s.o[query * PaddedDim(a.head_dim) + Slot(a, d)];
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
    // Each pass fetches what the next one reads: scoring this tile's values, adding values the
    // next tile's keys. A tile never crosses a page.
    const bool ahead = InPlace(a);
    const std::byte* next = ahead ? TileData(a, a.v_pages, tile) : nullptr;
    std::int64_t query = 0;
    for (; query + 4 <= queries; query += 4, next = nullptr) {
      ScoreQueries<4>(k, keys, padded, s, query, next);
    }
    for (; query < queries; ++query, next = nullptr) {
      ScoreQueries<1>(k, keys, padded, s, query, next);
    }
    for (query = 0; query < queries; ++query) SoftmaxDecode(a, s, query, tile, keys);
    const DecodeTile v = OpenTile(a, a.v_pages, tile, keys, s.rows);
    next =
        ahead && tile + kTileKeys < a.key_end ? TileData(a, a.k_pages, tile + kTileKeys) : nullptr;
    query = 0;
    for (; query + 4 <= queries; query += 4, next = nullptr) {
      AddQueries<4>(v, keys, padded, s, query, next);
    }
    for (; query < queries; ++query, next = nullptr) {
      AddQueries<1>(v, keys, padded, s, query, next);
    }
  }
  FinishDecode(a, s);
}

}  // namespace
}  // namespace longshadow::cpu

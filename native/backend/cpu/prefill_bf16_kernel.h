// Exact causal attention of a block of rows with bf16 dot products (fp32 sums). Include after
// prefill_f32_kernel.h, in a file compiled with AVX512-BF16.
//
// The structure is that of the fp32 kernel: lanes are queries, S^T = K Q^T, online softmax over
// vectors, O^T += V^T P. What differs: queries are packed as bf16 pairs of adjacent dimensions, so
// that a key's pairs are broadcast in place from the page; probabilities and values are packed as
// bf16 pairs of adjacent keys. Probabilities are rounded to bf16 for the product with V; their sum
// is taken before.
//
// Bound by arithmetic: 4 head_dim flops for each (query, key); a tile of 128 keys is read once for
// all query heads of the group.
#pragma once

#include "prefill_f32_kernel.h"

namespace longshadow::cpu {
namespace {

constexpr std::int32_t kBf16Vecs = kBlockRows / kLanes;  // vectors of lanes of one head

struct Bf16PrefillScratch {
  float* o;          // [heads][head_dim][64]
  float* max;        // [heads][64], in units of log2
  float* sum;        // [heads][64]
  float* scores;     // [128][64]
  std::uint32_t* q;  // [heads][head_dim / 2][64] pairs
  std::uint32_t* p;  // [64][64]: pairs of adjacent keys
  std::uint32_t* v;  // [64][head_dim]: pairs of adjacent keys
};

std::int64_t Bf16PrefillWords(std::int64_t head_dim, std::int64_t heads) {
  return heads * head_dim * kBlockRows * 3 / 2 + 2 * heads * kBlockRows + kTileKeys * kBlockRows +
         kTileKeys / 2 * (kBlockRows + head_dim);
}

inline Bf16PrefillScratch LayOutBf16(const PrefillArgs& a) {
  Bf16PrefillScratch s;
  const std::int64_t matrix = static_cast<std::int64_t>(a.heads) * a.head_dim * kBlockRows;
  s.o = static_cast<float*>(a.scratch);
  s.max = s.o + matrix;
  s.sum = s.max + a.heads * kBlockRows;
  s.scores = s.sum + a.heads * kBlockRows;
  s.q = reinterpret_cast<std::uint32_t*>(s.scores + kTileKeys * kBlockRows);
  s.p = s.q + matrix / 2;
  s.v = s.p + kTileKeys / 2 * kBlockRows;
  return s;
}

inline void LoadQueriesBf16(const PrefillArgs& a, const Bf16PrefillScratch& s) {
  const auto* q = static_cast<const std::uint16_t*>(a.q);
  for (std::int64_t h = 0; h < a.heads; ++h) {
    for (std::int64_t d = 0; d < a.head_dim; d += 2) {
      std::uint32_t* to = s.q + (h * a.head_dim + d) / 2 * kBlockRows;
      for (std::int64_t r = 0; r < kBlockRows; ++r) {
        std::uint32_t pair = 0;
        if (r < a.rows) __builtin_memcpy(&pair, q + r * a.q_stride + h * a.head_dim + d, 4);
        to[r] = pair;
      }
    }
  }
  for (std::int64_t i = 0; i < a.heads * kBlockRows; ++i) {
    s.max[i] = kMasked;
    s.sum[i] = 0;
  }
  for (std::int64_t i = 0; i < a.heads * a.head_dim * kBlockRows; ++i) s.o[i] = 0;
}

inline __m512bh LoadPairs(const std::uint32_t* p) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
}
inline __m512bh BroadcastPair(const void* p) {
  std::int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}

inline __m256i LoadHalves(const std::uint16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

/// Packs two keys' values as pairs. second may be null: then it counts as zero.
inline void PackPair(const std::uint16_t* first, const std::uint16_t* second, std::int64_t head_dim,
                     std::uint32_t* to) {
  std::int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    __m256i high = _mm256_setzero_si256();
    if (second != nullptr) high = LoadHalves(second + d);
    const __m512i lows = _mm512_cvtepu16_epi32(LoadHalves(first + d));
    const __m512i highs = _mm512_cvtepu16_epi32(high);
    _mm512_storeu_si512(to + d, _mm512_or_si512(lows, _mm512_slli_epi32(highs, 16)));
  }
  for (; d < head_dim; ++d) {
    to[d] = first[d] | (second != nullptr ? static_cast<std::uint32_t>(second[d]) << 16 : 0U);
  }
}

/// Packs a tile's values as pairs of adjacent keys; keys past the end count as zero (their memory
/// may hold anything).
inline void PackValues(const std::uint16_t* v, std::int64_t keys, std::int64_t head_dim,
                       std::uint32_t* packed) {
  for (std::int64_t j = 0; j < keys; j += 2) {
    const std::uint16_t* first = v + j * head_dim;
    PackPair(first, j + 1 < keys ? first + head_dim : nullptr, head_dim, packed + j / 2 * head_dim);
  }
}

/// scores[KEYS][64] = k[KEYS] . q; raises tops to the largest of each lane.
template <int KEYS, int VECS>
inline void ScoresBf16(const std::uint16_t* k, std::int64_t head_dim, const std::uint32_t* q,
                       float* scores, Vec (&tops)[VECS]) {
  Vec acc[KEYS][VECS];
#pragma GCC unroll 8
  for (int j = 0; j < KEYS; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) acc[j][i] = Zero();
  }
  for (std::int64_t d = 0; d < head_dim; d += 2) {
    __m512bh queries[VECS];
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) queries[i] = LoadPairs(q + d / 2 * kBlockRows + i * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < KEYS; ++j) {
      const __m512bh key = BroadcastPair(k + j * head_dim + d);
#pragma GCC unroll 4
      for (int i = 0; i < VECS; ++i) acc[j][i] = _mm512_dpbf16_ps(acc[j][i], key, queries[i]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < KEYS; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) {
      Store(scores + j * kBlockRows + i * kLanes, acc[j][i]);
      tops[i] = Max(tops[i], acc[j][i]);
    }
  }
}

/// 2^t for t <= 127, relative error below 4e-6 (polynomial 2.9e-6); exactly 1 at 0, exactly 0 for
/// masked scores. The fraction is in [0, 1), and scalef takes the floor of t itself.
inline Vec FastExp2(Vec t) {
  const Vec f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec p = Set1(0.0134266838F);
  p = Fma(p, f, Set1(0.0522424728F));
  p = Fma(p, f, Set1(0.241280198F));
  p = Fma(p, f, Set1(0.693044841F));
  p = Fma(p, f, Set1(1.0F));
  return _mm512_scalef_ps(p, t);
}

/// Probabilities of one vector of lanes over a tile, packed as pairs of keys. tops: the tile's
/// largest raw scores. Returns 2^(old max - new max).
inline Vec SoftmaxBf16(const float* scores, std::int64_t keys, float scale_log2, Vec tops,
                       float* max, float* sum, std::uint32_t* packed) {
  // Interleaves two vectors of 16 bf16: [low half | high half] to pairs (low, high).
  alignas(64) static constexpr std::uint16_t kInterleave[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kInterleave);
  const Vec scale = Set1(scale_log2);
  const Vec old = Load(max);
  const Vec top = Max(Mul(tops, scale), old);
  const Vec alpha = Exp2(Sub(old, top));
  const Vec shift = Sub(Zero(), top);
  Vec total[2] = {Mul(Load(sum), alpha), Zero()};
  for (std::int64_t j = 0; j < keys; j += 2) {
    const Vec first = FastExp2(Fma(Load(scores + j * kBlockRows), scale, shift));
    const Vec second =
        j + 1 < keys ? FastExp2(Fma(Load(scores + (j + 1) * kBlockRows), scale, shift)) : Zero();
    total[0] = Add(total[0], first);
    total[1] = Add(total[1], second);
    const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
    _mm512_storeu_si512(packed + j / 2 * kBlockRows, _mm512_permutexvar_epi16(order, both));
  }
  Store(max, top);
  Store(sum, Add(total[0], total[1]));
  return alpha;
}

/// o[4][lanes] = o * alpha + V^T P for four dimensions.
template <int VECS>
inline void ValuesBf16(const std::uint32_t* v, std::int64_t head_dim, const std::uint32_t* p,
                       std::int64_t pairs, const Vec (&alpha)[VECS], float* o) {
  constexpr int kDims = 4;
  Vec acc[kDims][VECS];
#pragma GCC unroll 4
  for (int d = 0; d < kDims; ++d) {
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) {
      acc[d][i] = Mul(Load(o + d * kBlockRows + i * kLanes), alpha[i]);
    }
  }
  for (std::int64_t j = 0; j < pairs; ++j) {
    __m512bh weights[VECS];
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) weights[i] = LoadPairs(p + j * kBlockRows + i * kLanes);
#pragma GCC unroll 4
    for (int d = 0; d < kDims; ++d) {
      const __m512bh value = BroadcastPair(v + j * head_dim + d);
#pragma GCC unroll 4
      for (int i = 0; i < VECS; ++i) acc[d][i] = _mm512_dpbf16_ps(acc[d][i], value, weights[i]);
    }
  }
#pragma GCC unroll 4
  for (int d = 0; d < kDims; ++d) {
#pragma GCC unroll 4
    for (int i = 0; i < VECS; ++i) Store(o + d * kBlockRows + i * kLanes, acc[d][i]);
  }
}

/// Hides the keys that a lane may not see, and takes the largest visible score of each lane.
template <int VECS>
inline void MaskScores(float* scores, std::int64_t keys, const std::int32_t* limits,
                       Vec (&tops)[VECS]) {
  for (int i = 0; i < VECS; ++i) tops[i] = Set1(kMasked);
  for (std::int64_t j = 0; j < keys; ++j) {
    for (int i = 0; i < VECS; ++i) {
      float* at = scores + j * kBlockRows + i * kLanes;
      const Vec s = Max(Set1(kMasked),
                        MaskAbove(Load(at), limits + i * kLanes, static_cast<std::int32_t>(j)));
      Store(at, s);
      tops[i] = Max(tops[i], s);
    }
  }
}

/// One key tile of one head, its values in s.v. VECS: vectors of lanes that hold rows. aside: as
/// NoAside.
template <int VECS, int DIM, typename Aside>
inline void TileStepBf16(const PrefillArgs& a, const Bf16PrefillScratch& s, std::int64_t head,
                         const std::uint16_t* k, std::int64_t keys, const std::int32_t* limits,
                         const Aside& aside) {
  const std::int64_t dim = DIM > 0 ? DIM : a.head_dim;
  const std::int64_t at = head * dim * kBlockRows;
  constexpr int kKeys = VECS == 4 ? 4 : 8;
  Vec tops[VECS];
  for (int i = 0; i < VECS; ++i) tops[i] = Set1(kMasked);
  std::int64_t j = 0;
  for (; j + kKeys <= keys; j += kKeys) {
    aside.AtKeys(j, kKeys);
    ScoresBf16<kKeys, VECS>(k + j * dim, dim, s.q + at / 2, s.scores + j * kBlockRows, tops);
  }
  for (; j < keys; ++j) {
    ScoresBf16<1, VECS>(k + j * dim, dim, s.q + at / 2, s.scores + j * kBlockRows, tops);
  }
  if (limits != nullptr) MaskScores<VECS>(s.scores, keys, limits, tops);
  Vec alpha[VECS];
  for (int i = 0; i < VECS; ++i) {
    const std::int64_t state = head * kBlockRows + i * kLanes;
    alpha[i] = SoftmaxBf16(s.scores + i * kLanes, keys, a.scale * kLog2E, tops[i], s.max + state,
                           s.sum + state, s.p + i * kLanes);
  }
  for (std::int64_t d = 0; d < dim; d += 4) {
    aside.AtValues(d, 4);
    ValuesBf16<VECS>(s.v + d, dim, s.p, (keys + 1) / 2, alpha, s.o + at + d * kBlockRows);
  }
}

template <int VECS, int DIM>
void PrefillBf16Blocks(const PrefillArgs& a) {
  constexpr std::int64_t kPage = 512;
  const Bf16PrefillScratch s = LayOutBf16(a);
  LoadQueriesBf16(a, s);
  const std::int64_t dim = DIM > 0 ? DIM : a.head_dim;
  const std::int64_t key_end = a.position + a.rows;
  alignas(64) std::int32_t limits[kBlockRows];
  for (std::int64_t tile = 0; tile < key_end; tile += kTileKeys) {
    const std::int64_t keys = key_end - tile < kTileKeys ? key_end - tile : kTileKeys;
    const bool masked = tile + keys - 1 > a.position;
    if (masked) TileLimits(a, tile, limits);
    const std::int64_t offset = tile % kPage * dim;
    const std::byte* k = a.k_pages[tile / kPage] + a.plane_offset;
    const std::byte* v = a.v_pages[tile / kPage] + a.plane_offset;
    PackValues(reinterpret_cast<const std::uint16_t*>(v) + offset, keys, dim, s.v);
    for (std::int64_t h = 0; h < a.heads; ++h) {
      TileStepBf16<VECS, DIM>(a, s, h, reinterpret_cast<const std::uint16_t*>(k) + offset, keys,
                              masked ? limits : nullptr, NoAside{});
    }
  }
  StoreAttention(a, s.o, s.sum);
}

template <int DIM>
void PrefillBf16Rows(const PrefillArgs& a) {
  if (a.rows <= kLanes) {
    PrefillBf16Blocks<1, DIM>(a);
  } else if (a.rows <= 2 * kLanes) {
    PrefillBf16Blocks<2, DIM>(a);
  } else {
    PrefillBf16Blocks<kBf16Vecs, DIM>(a);
  }
}

/// bf16 queries over a bf16 cache; anything else goes to the fp32 kernel.
void PrefillBf16(const PrefillArgs& a) {
  if (!a.q_bf16 || !a.kv_bf16) {
    PrefillF32(a);
    return;
  }
  switch (a.head_dim) {
    case 64:
      PrefillBf16Rows<64>(a);
      break;
    case 96:
      PrefillBf16Rows<96>(a);
      break;
    case 128:
      PrefillBf16Rows<128>(a);
      break;
    default:
      PrefillBf16Rows<0>(a);
      break;
  }
}

}  // namespace
}  // namespace longshadow::cpu

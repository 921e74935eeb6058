// Masses of columns and diagonals under the softmax of 64 queries of one head, over a span of keys.
// Include after math_kernels.h.
//
// Lanes are queries, as in the dense kernels, and scores come from their micro-kernels. Two passes:
//   1  each lane's maximum and sum of 2^(score - max);
//   2  scores again, p = 2^(score - max - log2 sum), a key's p summed over lanes (its column) and
//      over keys one lane further for each key (a diagonal).
// Probabilities of 64 keys stay in a buffer whose rows have zeros between them: a diagonal's
// 16 neighbours are then one unaligned load from each row, summed in registers. Adding each row to
// the diagonals in memory would read what the row before has just written, at another alignment,
// which no store buffer forwards.
//
// Bound by arithmetic: 4 head_dim flops for each (query, key) in both passes together, as many as
// dense attention spends on it.
#pragma once

#include "prefill_f32_kernel.h"
#ifdef LONGSHADOW_BF16_DOT
#include "prefill_bf16_kernel.h"
#endif

namespace longshadow::cpu {
namespace {

constexpr std::int32_t kEstimateTile = 64;  // keys; divides a page
constexpr std::int32_t kGap = 16;           // zeros between two keys' probabilities
constexpr std::int32_t kProbabilityRow = kBlockRows + kGap;
/// How far, in units of log2, a score may pass the maximum that sums refer to before they are
/// rescaled. Exponents up to it cost log(2) 4 u of accuracy, less than the exponential itself.
constexpr float kHeadroom = 4.0F;
/// A lane's maximum before it has seen a key: above hidden scores (kMasked times at least 1/16, the
/// scale of the largest head), which therefore weigh nothing, and below any other.
constexpr float kNoMax = kMasked / 64;

/// fp32 queries and keys.
struct F32Dot {
  using Key = float;
  using Query = float;
  static constexpr int kVecs = kF32Vecs;
  static constexpr int kKeys = kF32Keys;

  static std::int64_t Dim(const EstimateArgs& a) { return a.head_dim; }
  static void LoadQueries(const EstimateArgs& a, float* q) {
    for (std::int64_t d = 0; d < a.head_dim; ++d) {
      for (std::int64_t r = 0; r < kBlockRows; ++r) {
        const std::int64_t row = r < a.rows ? r : a.rows - 1;
        q[d * kBlockRows + r] = ReadElement(a.q, a.q_bf16, row * a.q_stride + d);
      }
    }
  }
  static const float* Keys(const EstimateArgs& a, const std::byte* plane, std::int64_t first,
                           std::int64_t keys, float* scratch) {
    return TileF32(plane, a.kv_bf16, first, keys, a.head_dim, scratch);
  }
  template <int KEYS>
  static void Scores(const float* k, std::int64_t dim, const float* q, float* scores) {
    ScoresF32<KEYS, kVecs>(k, dim, q, scores);
  }
  static Vec Power(Vec t) { return Exp2(t); }
};

#ifdef LONGSHADOW_BF16_DOT
/// bf16 queries over a bf16 cache. DIM: head_dim, 0 for any.
template <int DIM>
struct Bf16Dot {
  using Key = std::uint16_t;
  using Query = std::uint32_t;
  static constexpr int kVecs = kBf16Vecs;
  static constexpr int kKeys = 4;

  static std::int64_t Dim(const EstimateArgs& a) { return DIM > 0 ? DIM : a.head_dim; }
  static void LoadQueries(const EstimateArgs& a, std::uint32_t* q) {
    const auto* from = static_cast<const std::uint16_t*>(a.q);
    for (std::int64_t d = 0; d < a.head_dim; d += 2) {
      for (std::int64_t r = 0; r < kBlockRows; ++r) {
        const std::int64_t row = r < a.rows ? r : a.rows - 1;
        __builtin_memcpy(q + d / 2 * kBlockRows + r, from + row * a.q_stride + d, 4);
      }
    }
  }
  static const std::uint16_t* Keys(const EstimateArgs& a, const std::byte* plane,
                                   std::int64_t first, std::int64_t, float*) {
    return reinterpret_cast<const std::uint16_t*>(plane) + first * Dim(a);
  }
  template <int KEYS>
  static void Scores(const std::uint16_t* k, std::int64_t dim, const std::uint32_t* q,
                     float* scores) {
    Vec unused[kVecs];
    for (int i = 0; i < kVecs; ++i) unused[i] = Zero();
    ScoresBf16<KEYS, kVecs>(k, dim, q, scores, unused);
  }
  static Vec Power(Vec t) { return FastExp2(t); }
};
#endif

struct EstimateScratch {
  /// [head_dim][64], or [head_dim / 2][64] pairs. Lanes past the last row repeat it: they hold an
  /// infinity or a NaN only where a row does.
  float* q;
  float* k;              // [64][head_dim], where the cache is bf16 and the kernel is not
  float* scores;         // [group of keys][64]
  float* probabilities;  // [64][80], with a gap before the first row
  float* columns;        // [64][kLanes]
  float* diagonals;      // [64], of the tile before; continued in the next
  float* line;           // [64]
};

std::int64_t EstimateFloats(std::int64_t head_dim) {
  return head_dim * (kBlockRows + kEstimateTile) + 8 * kBlockRows + kGap +
         kEstimateTile * (kProbabilityRow + kLanes) + 2 * kBlockRows;
}

inline EstimateScratch LayOutEstimate(const EstimateArgs& a) {
  EstimateScratch s;
  s.q = static_cast<float*>(a.scratch);
  s.k = s.q + a.head_dim * kBlockRows;
  s.scores = s.k + a.head_dim * kEstimateTile;
  s.probabilities = s.scores + 8 * kBlockRows + kGap;
  s.columns = s.probabilities + kEstimateTile * kProbabilityRow;
  s.diagonals = s.columns + kEstimateTile * kLanes;
  s.line = s.diagonals + kBlockRows;
  return s;
}

/// limits[r] = the last key of the tile at `tile` that row r may see. False: all see all.
inline bool EstimateLimits(const EstimateArgs& a, std::int64_t tile, std::int32_t* limits) {
  if (tile + kEstimateTile - 1 <= a.position) return false;
  for (std::int32_t r = 0; r < kBlockRows; ++r) {
    const std::int64_t last = a.position + (r < a.rows ? r : a.rows - 1) - tile;
    limits[r] = last < -1 ? -1 : static_cast<std::int32_t>(last < 64 ? last : 64);
  }
  return true;
}

/// Scores of KEYS keys from `key` on for VECS vectors of lanes; hidden ones are kMasked.
template <class Dot, int KEYS>
inline void GroupScores(const typename Dot::Key* k, std::int64_t dim, const typename Dot::Query* q,
                        std::int32_t key, const std::int32_t* limits, float* scores) {
  Dot::template Scores<KEYS>(k + key * dim, dim, q, scores);
  if (limits == nullptr) return;
  for (int j = 0; j < KEYS; ++j) {
    for (int i = 0; i < Dot::kVecs; ++i) {
      float* at = scores + j * kBlockRows + i * kLanes;
      Store(at, Max(Set1(kMasked), MaskAbove(Load(at), limits + i * kLanes, key + j)));
    }
  }
}

/// Raises the maximum of each lane to `tops` and rescales its sums: of the tile, and before it.
template <int VECS>
inline void RaiseMax(const Vec (&tops)[VECS], float* max, float* tile_sum, float* sum) {
  for (int i = 0; i < VECS; ++i) {
    const std::int64_t at = i * kLanes;
    const Vec old = Load(max + at);
    const Vec top = Max(tops[i], old);
    const Vec alpha = Exp2(Sub(old, top));
    Store(max + at, top);
    Store(tile_sum + at, Mul(Load(tile_sum + at), alpha));
    Store(sum + at, Mul(Load(sum + at), alpha));
  }
}

/// First pass over KEYS scores of VECS vectors of lanes.
template <class Dot, int KEYS>
inline void AddWeights(const float* scores, Vec scale, float* max, float* tile_sum, float* sum) {
  constexpr int kVecs = Dot::kVecs;
  Vec tops[kVecs];
  std::int64_t above = 0;
#pragma GCC unroll 4
  for (int i = 0; i < kVecs; ++i) {
    tops[i] = Set1(kMasked);
#pragma GCC unroll 4
    for (int j = 0; j < KEYS; ++j) {
      tops[i] = Max(tops[i], Load(scores + j * kBlockRows + i * kLanes));
    }
    tops[i] = Mul(tops[i], scale);
    above += CountGreater(tops[i], Add(Load(max + i * kLanes), Set1(kHeadroom)));
  }
  if (above != 0) RaiseMax<kVecs>(tops, max, tile_sum, sum);
#pragma GCC unroll 4
  for (int i = 0; i < kVecs; ++i) {
    const Vec shift = Sub(Zero(), Load(max + i * kLanes));
    Vec total = Load(tile_sum + i * kLanes);
#pragma GCC unroll 4
    for (int j = 0; j < KEYS; ++j) {
      const Vec score = Load(scores + j * kBlockRows + i * kLanes);
      total = Add(total, Dot::Power(Fma(score, scale, shift)));
    }
    Store(tile_sum + i * kLanes, total);
  }
}

/// Second pass over KEYS scores of VECS vectors of lanes: probabilities, and their sums over those
/// lanes added to `columns`.
template <class Dot, int KEYS>
inline void AddColumns(const float* scores, Vec scale, const float* shift, float* probabilities,
                       float* columns) {
#pragma GCC unroll 4
  for (int j = 0; j < KEYS; ++j) {
    Vec column = Load(columns + j * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < Dot::kVecs; ++i) {
      const Vec score = Load(scores + j * kBlockRows + i * kLanes);
      const Vec p = Dot::Power(Fma(score, scale, Load(shift + i * kLanes)));
      Store(probabilities + j * kProbabilityRow + i * kLanes, p);
      column = Add(column, p);
    }
    Store(columns + j * kLanes, column);
  }
}

/// Sums a tile's probabilities along its diagonals. With x = 63 - key + lane, which grows with the
/// distance: x in [64, 128) ends here, line[x - 64] = its sum and what the tile before left;
/// x in [0, 64) is left for the next tile.
inline void SumDiagonals(const float* probabilities, float* diagonals, float* line) {
  constexpr std::int32_t kLast = kEstimateTile - 1;
  for (std::int32_t x = 2 * kEstimateTile - kLanes; x >= 0; x -= kLanes) {
    const std::int32_t low = kLast - (x + kLanes - 1);
    const std::int32_t high = kLast - x + kBlockRows - 1;
    std::int32_t key = low < 0 ? 0 : low;
    const std::int32_t end = (high < kLast ? high : kLast) + 1;
    // Row `key` begins 63 - key before lane 0 of x = 0.
    const float* at = probabilities + x - kLast + key * (kProbabilityRow + 1);
    Vec sums[4] = {Zero(), Zero(), Zero(), Zero()};
    for (; key + 4 <= end; key += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[i] = Add(sums[i], Load(at + i * (kProbabilityRow + 1)));
      at += 4 * (kProbabilityRow + 1);
    }
    for (; key < end; ++key, at += kProbabilityRow + 1) sums[0] = Add(sums[0], Load(at));
    const Vec sum = Add(Add(sums[0], sums[1]), Add(sums[2], sums[3]));
    if (x >= kEstimateTile) {
      Store(line + x - kEstimateTile, Add(sum, Load(diagonals + x - kEstimateTile)));
    } else {
      Store(diagonals + x, sum);
    }
  }
}

/// slash[d] = line[d - first], as far as distances go.
inline void StoreLine(const EstimateArgs& a, const float* line, std::int64_t first) {
  const std::int64_t limit = a.position + a.rows - first;
  const std::int64_t end = limit < kBlockRows ? limit : kBlockRows;
  for (std::int64_t x = first < 0 ? -first : 0; x < end; ++x) a.slash[first + x] = line[x];
}

/// body(k, key, count) for groups of a tile's keys: count is kKeys, or 1 at the end.
template <class Dot, typename Body>
inline void ForGroups(std::int32_t keys, Body body) {
  std::int32_t key = 0;
  for (; key + Dot::kKeys <= keys; key += Dot::kKeys) body.template operator()<Dot::kKeys>(key);
  for (; key < keys; ++key) body.template operator()<1>(key);
}

/// body(tile, keys, count, limits) for the tiles of the span.
template <class Dot, typename Body>
inline void ForTiles(const EstimateArgs& a, const EstimateScratch& s, Body body) {
  constexpr std::int64_t kPage = 512;
  alignas(64) std::int32_t limits[kBlockRows];
  for (std::int64_t tile = a.key_begin; tile < a.key_end; tile += kEstimateTile) {
    const std::int64_t rest = a.key_end - tile;
    const auto keys = static_cast<std::int32_t>(rest < kEstimateTile ? rest : kEstimateTile);
    const bool masked = EstimateLimits(a, tile, limits);
    const std::byte* plane = a.k_pages[tile / kPage] + a.plane_offset;
    body(tile, Dot::Keys(a, plane, tile % kPage, keys, s.k), keys, masked ? limits : nullptr);
  }
}

/// Lanes of one step of a tile.
template <class Dot>
constexpr std::int32_t kStepLanes = Dot::kVecs* kLanes;

template <class Dot>
void EstimateWeightsOf(const EstimateArgs& a) {
  const EstimateScratch s = LayOutEstimate(a);
  auto* q = reinterpret_cast<typename Dot::Query*>(s.q);
  Dot::LoadQueries(a, q);
  const Vec scale = Set1(a.scale * kLog2E);
  const std::int64_t dim = Dot::Dim(a);
  alignas(64) float tile_sum[kBlockRows];
  for (std::int32_t r = 0; r < kBlockRows; ++r) {
    a.max[r] = kNoMax;
    a.sum[r] = tile_sum[r] = 0;
  }
  ForTiles<Dot>(
      a, s,
      [&](std::int64_t, const typename Dot::Key* k, std::int32_t keys, const std::int32_t* limits) {
        for (std::int32_t lane = 0; lane < a.rows; lane += kStepLanes<Dot>) {
          ForGroups<Dot>(keys, [&]<int KEYS>(std::int32_t key) {
            GroupScores<Dot, KEYS>(k, dim, q + lane, key,
                                   limits == nullptr ? nullptr : limits + lane, s.scores);
            AddWeights<Dot, KEYS>(s.scores, scale, a.max + lane, tile_sum + lane, a.sum + lane);
          });
        }
        // Sums of tiles: the error does not grow with each key.
        for (std::int32_t r = 0; r < kBlockRows; ++r) {
          a.sum[r] += tile_sum[r];
          tile_sum[r] = 0;
        }
      });
}

/// vertical[0, keys) = the sums of the lanes of `columns`, which become 0.
inline void StoreColumns(float* columns, std::int32_t keys, float* vertical) {
  for (std::int32_t first = 0; first < keys; first += kLanes) {
    Vec each[kLanes];
    for (std::int32_t i = 0; i < kLanes; ++i) {
      each[i] = Load(columns + (first + i) * kLanes);
      Store(columns + (first + i) * kLanes, Zero());
    }
    const Vec sums = ReduceEach(each);
    if (keys - first >= kLanes) {
      Store(vertical + first, sums);
    } else {
      StorePart(vertical + first, sums, keys - first);
    }
  }
}

template <class Dot>
void EstimateLinesOf(const EstimateArgs& a) {
  const EstimateScratch s = LayOutEstimate(a);
  auto* q = reinterpret_cast<typename Dot::Query*>(s.q);
  Dot::LoadQueries(a, q);
  const Vec scale = Set1(a.scale * kLog2E);
  const std::int64_t dim = Dot::Dim(a);
  for (float* zero = s.probabilities - kGap; zero < s.line; ++zero) *zero = 0;
  const auto tile_step = [&](std::int64_t tile, const typename Dot::Key* k, std::int32_t keys,
                             const std::int32_t* limits) {
    for (std::int32_t lane = 0; lane < a.rows; lane += kStepLanes<Dot>) {
      ForGroups<Dot>(keys, [&]<int KEYS>(std::int32_t key) {
        GroupScores<Dot, KEYS>(k, dim, q + lane, key, limits == nullptr ? nullptr : limits + lane,
                               s.scores);
        AddColumns<Dot, KEYS>(s.scores, scale, a.shift + lane,
                              s.probabilities + key * kProbabilityRow + lane,
                              s.columns + key * kLanes);
      });
    }
    for (std::int32_t j = keys * kProbabilityRow; j < kEstimateTile * kProbabilityRow; ++j) {
      s.probabilities[j] = 0;
    }
    StoreColumns(s.columns, keys, a.vertical + tile);
    const bool to_edge = tile == a.key_begin && a.edge != nullptr;
    SumDiagonals(s.probabilities, s.diagonals, to_edge ? a.edge : s.line);
    if (!to_edge) StoreLine(a, s.line, a.position - tile + 1);
  };
  ForTiles<Dot>(a, s, tile_step);
  const std::int64_t tiles = (a.key_end - a.key_begin + kEstimateTile - 1) / kEstimateTile;
  StoreLine(a, s.diagonals, a.position - (a.key_begin + tiles * kEstimateTile) + 1);
}

#ifdef LONGSHADOW_BF16_DOT
/// Calls run with the kernel's type of dot product for these arguments.
template <typename Run>
inline void WithDot(const EstimateArgs& a, Run run) {
  if (!a.q_bf16 || !a.kv_bf16) {
    run.template operator()<F32Dot>();
  } else if (a.head_dim == 64) {
    run.template operator()<Bf16Dot<64>>();
  } else if (a.head_dim == 96) {
    run.template operator()<Bf16Dot<96>>();
  } else if (a.head_dim == 128) {
    run.template operator()<Bf16Dot<128>>();
  } else {
    run.template operator()<Bf16Dot<0>>();
  }
}
#else
template <typename Run>
inline void WithDot(const EstimateArgs&, Run run) {
  run.template operator()<F32Dot>();
}
#endif

std::int64_t EstimateBytes(std::int32_t head_dim) { return EstimateFloats(head_dim) * 4; }
void EstimateWeights(const EstimateArgs& a) {
  WithDot(a, [&]<class Dot>() { EstimateWeightsOf<Dot>(a); });
}
void EstimateLines(const EstimateArgs& a) {
  WithDot(a, [&]<class Dot>() { EstimateLinesOf<Dot>(a); });
}

}  // namespace
}  // namespace longshadow::cpu

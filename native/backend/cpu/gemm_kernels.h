// y = x W^T for one panel of 64 output features. Include after simd_<isa>.h.
#pragma once

#include "kernels.h"

namespace longshadow::cpu {
namespace {

// The tile that fits the registers: ROWS x VECS accumulators, VECS weights, one broadcast.
constexpr int kGemmVecs = kLanes == 16 ? 4 : 2;
constexpr int kGemmRows = 6;

template <int ROWS>
inline void StoreGemmTile(const GemmArgs& g, std::int64_t row, std::int64_t column,
                          const Vec (&acc)[ROWS][kGemmVecs]) {
  for (int r = 0; r < ROWS; ++r) {
    float* y = g.y + (row + r) * g.y_stride + column;
    for (int v = 0; v < kGemmVecs; ++v) {
      const std::int64_t left = g.columns - column - v * kLanes;
      float* at = y + v * kLanes;
      if (left >= kLanes) {
        Store(at, g.accumulate ? Add(Load(at), acc[r][v]) : acc[r][v]);
      } else if (left > 0) {
        alignas(64) float part[kLanes];
        Store(part, acc[r][v]);
        for (std::int64_t i = 0; i < left; ++i) at[i] = g.accumulate ? at[i] + part[i] : part[i];
      }
    }
  }
}

inline Vec LoadWeights(const float* w) { return Load(w); }
inline Vec LoadWeights(const std::uint16_t* w) { return LoadBf16(w); }

template <int ROWS, typename Element>
inline void GemmF32Tile(const GemmArgs& g, std::int64_t row, std::int64_t column) {
  const auto* w = static_cast<const Element*>(g.panel) + column;
  const float* x = static_cast<const float*>(g.x) + row * g.x_stride;
  Vec acc[ROWS][kGemmVecs];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) acc[r][v] = Zero();
  }
  for (std::int64_t i = 0; i < g.in; ++i, w += kPanel) {
    Vec weights[kGemmVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) weights[v] = LoadWeights(w + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      const Vec value = Set1(x[r * g.x_stride + i]);
#pragma GCC unroll 8
      for (int v = 0; v < kGemmVecs; ++v) acc[r][v] = Fma(value, weights[v], acc[r][v]);
    }
  }
  StoreGemmTile<ROWS>(g, row, column, acc);
}

/// Runs TILE over all rows, then over what is left one size smaller each.
template <template <int> class TILE>
inline void ForGemmTiles(const GemmArgs& g) {
  for (std::int64_t column = 0; column < g.columns; column += kGemmVecs * kLanes) {
    std::int64_t row = 0;
    for (; row + kGemmRows <= g.rows; row += kGemmRows) TILE<kGemmRows>::Run(g, row, column);
    switch (g.rows - row) {
      case 1:
        TILE<1>::Run(g, row, column);
        break;
      case 2:
        TILE<2>::Run(g, row, column);
        break;
      case 3:
        TILE<3>::Run(g, row, column);
        break;
      case 4:
        TILE<4>::Run(g, row, column);
        break;
      case 5:
        TILE<5>::Run(g, row, column);
        break;
      default:
        break;
    }
  }
}

template <int ROWS>
struct F32Tile {
  static void Run(const GemmArgs& g, std::int64_t row, std::int64_t column) {
    if (g.panel_bf16) {
      GemmF32Tile<ROWS, std::uint16_t>(g, row, column);
    } else {
      GemmF32Tile<ROWS, float>(g, row, column);
    }
  }
};

void GemmF32(const GemmArgs& args) { ForGemmTiles<F32Tile>(args); }

#ifdef LONGSHADOW_BF16_DOT
template <int ROWS>
inline void GemmBf16Tile(const GemmArgs& g, std::int64_t row, std::int64_t column) {
  const auto* w = static_cast<const std::uint32_t*>(g.panel) + column;
  const auto* x = static_cast<const std::uint16_t*>(g.x) + row * g.x_stride;
  Vec acc[ROWS][kGemmVecs];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) acc[r][v] = Zero();
  }
  for (std::int64_t i = 0; i + 1 < g.in; i += 2, w += kPanel) {
    __m512bh weights[kGemmVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) {
      weights[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + v * kLanes));
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      std::int32_t pair;
      __builtin_memcpy(&pair, x + r * g.x_stride + i, sizeof(pair));
      const auto value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 8
      for (int v = 0; v < kGemmVecs; ++v) {
        acc[r][v] = _mm512_dpbf16_ps(acc[r][v], value, weights[v]);
      }
    }
  }
  if (g.in % 2 != 0) {  // the packed weights are padded with a zero feature
    for (int r = 0; r < ROWS; ++r) {
      const std::int32_t pair = x[r * g.x_stride + g.in - 1];
      const auto value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      for (int v = 0; v < kGemmVecs; ++v) {
        acc[r][v] = _mm512_dpbf16_ps(
            acc[r][v], value, reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + v * kLanes)));
      }
    }
  }
  StoreGemmTile<ROWS>(g, row, column, acc);
}

template <int ROWS>
struct Bf16Tile {
  static void Run(const GemmArgs& g, std::int64_t row, std::int64_t column) {
    GemmBf16Tile<ROWS>(g, row, column);
  }
};

void GemmBf16(const GemmArgs& args) { ForGemmTiles<Bf16Tile>(args); }
#endif

}  // namespace
}  // namespace longshadow::cpu

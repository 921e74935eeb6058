// y = x W^T for one panel of 64 output features. Include after simd_<isa>.h.
#pragma once

#include "kernels.h"
#include "math_kernels.h"

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

/// Asks for what StoreGemmTile writes, while the sums are made.
template <int ROWS>
inline void PrefetchGemmTile(const GemmArgs& g, std::int64_t row, std::int64_t column) {
  for (int r = 0; r < ROWS; ++r) {
    const float* y = g.y + (row + r) * g.y_stride + column;
    for (int i = 0; i < kGemmVecs * kLanes; i += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(y + i), _MM_HINT_T0);
    }
  }
}

inline Vec LoadWeights(const float* w) { return Load(w); }
inline Vec LoadWeights(const std::uint16_t* w) { return LoadBf16(w); }

/// A slice of the input features of a product: all of them, or one of several that resume each
/// other's sums, so that a sum is one chain over the features either way.
template <typename Element>
struct GemmSlice {
  const Element* panel = nullptr;  // [in][64]
  const float* x = nullptr;
  std::int64_t in = 0;
  float* sums = nullptr;  // [rows][64]: left by the slice before, or for the slice after
  bool first = true;
  bool last = true;            // y gets the sums
  const void* next = nullptr;  // packed weights that are multiplied after this slice
  std::int64_t ahead = 0;      // bytes of `next` that each row asks for
};

template <int ROWS, typename Element>
inline void GemmF32Tile(const GemmArgs& g, const GemmSlice<Element>& s, std::int64_t row,
                        std::int64_t column) {
  const Element* w = s.panel + column;
  const float* x = s.x + row * g.x_stride;
  if (s.last) PrefetchGemmTile<ROWS>(g, row, column);
  if (column == 0) {
    const char* next = static_cast<const char*>(s.next) + row * s.ahead;
    for (std::int64_t at = 0; at < ROWS * s.ahead; at += 64) _mm_prefetch(next + at, _MM_HINT_T1);
  }
  Vec acc[ROWS][kGemmVecs];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) {
      acc[r][v] = s.first ? Zero() : Load(s.sums + (row + r) * kPanel + column + v * kLanes);
    }
  }
  for (std::int64_t i = 0; i < s.in; ++i, w += kPanel) {
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
  if (s.last) {
    StoreGemmTile<ROWS>(g, row, column, acc);
    return;
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kGemmVecs; ++v) {
      Store(s.sums + (row + r) * kPanel + column + v * kLanes, acc[r][v]);
    }
  }
}

/// A tile's number of rows, as an argument.
template <int ROWS>
struct TileRows {
  static constexpr int value = ROWS;
};

/// Calls tile(TileRows, row, column) for whole tiles, then once for the rows that are left.
template <typename Tile>
inline void ForGemmTiles(const GemmArgs& g, const Tile& tile) {
  for (std::int64_t column = 0; column < g.columns; column += kGemmVecs * kLanes) {
    std::int64_t row = 0;
    for (; row + kGemmRows <= g.rows; row += kGemmRows) tile(TileRows<kGemmRows>{}, row, column);
    switch (g.rows - row) {
      case 1:
        tile(TileRows<1>{}, row, column);
        break;
      case 2:
        tile(TileRows<2>{}, row, column);
        break;
      case 3:
        tile(TileRows<3>{}, row, column);
        break;
      case 4:
        tile(TileRows<4>{}, row, column);
        break;
      case 5:
        tile(TileRows<5>{}, row, column);
        break;
      default:
        break;
    }
  }
}

template <typename Element>
inline void RunGemmSlice(const GemmArgs& g, const GemmSlice<Element>& s) {
  ForGemmTiles(g, [&](auto rows, std::int64_t row, std::int64_t column) {
    GemmF32Tile<decltype(rows)::value, Element>(g, s, row, column);
  });
}

/// Many rows go slice by slice, so that the weights of a slice stay in the first-level cache while
/// all rows meet them; reading 128 KiB from the second level for each tile is what costs otherwise.
template <typename Element>
inline void RunGemmSlices(const GemmArgs& g) {
  const auto* panel = static_cast<const Element*>(g.panel);
  const auto* x = static_cast<const float*>(g.x);
  float* widened = g.scratch + g.rows * kPanel;
  for (std::int64_t begin = 0; begin < g.in; begin += kGemmSlice) {
    const std::int64_t in = g.in - begin < kGemmSlice ? g.in - begin : kGemmSlice;
    GemmSlice<float> slice;
    if constexpr (sizeof(Element) == sizeof(float)) {
      slice.panel = panel + begin * kPanel;
    } else {
      Bf16ToF32(panel + begin * kPanel, widened, in * kPanel);
      slice.panel = widened;
    }
    slice.x = x + begin;
    slice.in = in;
    slice.sums = g.scratch;
    slice.first = begin == 0;
    slice.last = begin + in == g.in;
    // Behind a panel lies the next one: the slice that follows, or nothing that does harm.
    slice.next = panel + (begin + in) * kPanel;
    const std::int64_t bytes = in * kPanel * static_cast<std::int64_t>(sizeof(Element));
    slice.ahead = (bytes + g.rows - 1) / g.rows;
    RunGemmSlice(g, slice);
  }
}

template <typename Element>
inline void RunFewRows(const GemmArgs& g) {
  GemmSlice<Element> all;
  all.panel = static_cast<const Element*>(g.panel);
  all.x = static_cast<const float*>(g.x);
  all.in = g.in;
  RunGemmSlice(g, all);
}

void GemmF32(const GemmArgs& g) {
  if (g.scratch == nullptr) {
    g.panel_bf16 ? RunFewRows<std::uint16_t>(g) : RunFewRows<float>(g);
  } else {
    g.panel_bf16 ? RunGemmSlices<std::uint16_t>(g) : RunGemmSlices<float>(g);
  }
}

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

void GemmBf16(const GemmArgs& g) {
  ForGemmTiles(g, [&](auto rows, std::int64_t row, std::int64_t column) {
    GemmBf16Tile<decltype(rows)::value>(g, row, column);
  });
}
#endif

}  // namespace
}  // namespace longshadow::cpu

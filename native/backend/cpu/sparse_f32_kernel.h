// Sparse attention of a block of rows of one query head, fp32 arithmetic. Include after
// prefill_f32_kernel.h, whose arithmetic this is: only where a tile's keys come from differs.
#pragma once

#include "prefill_f32_kernel.h"
#include "sparse_tiles.h"

namespace longshadow::cpu {
namespace {

std::int64_t SparseF32Floats(std::int64_t head_dim) { return F32PrefillFloats(head_dim, 1); }

/// A tile's rows of one plane as fp32: in place, or gathered into `scratch`.
inline const float* GatherF32(const SparseTile& tile, const std::byte* const* rows, bool bf16,
                              std::int64_t head_dim, float* scratch) {
  if (tile.contiguous) return TileF32(rows[0], bf16, 0, tile.keys, head_dim, scratch);
  for (std::int64_t j = 0; j < tile.keys; ++j) {
    float* to = scratch + j * head_dim;
    if (bf16) {
      Bf16ToF32(reinterpret_cast<const std::uint16_t*>(rows[j]), to, head_dim);
    } else {
      __builtin_memcpy(to, rows[j], static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  }
  return scratch;
}

void SparseF32(const SparseArgs& args) {
  const PrefillArgs& a = args.block;
  const F32PrefillScratch s = LayOutF32(a);
  const std::int64_t row_bytes = a.head_dim * (a.kv_bf16 ? 2 : 4);
  TileWalk walk(args);
  SparseTile tiles[2];
  walk.Next(kF32TileKeys, tiles[0]);
  FetchAside{tiles[0], tiles[0].keys, row_bytes, a.head_dim}.All();
  LoadQueriesF32(a, s);
  alignas(64) std::int32_t storage[kBlockRows];
  const bool few = a.rows <= kF32Vecs / 2 * kLanes;
  const auto step = few ? TileStepF32<kF32Vecs / 2, FetchAside> : TileStepF32<kF32Vecs, FetchAside>;
  for (int now = 0; tiles[now].keys > 0; now ^= 1) {
    const SparseTile& tile = tiles[now];
    SparseTile& next = tiles[now ^ 1];
    walk.Next(kF32TileKeys, next);
    const std::int32_t* limits = SparseLimits(a, tile, storage);
    const float* k = GatherF32(tile, tile.k, a.kv_bf16, a.head_dim, s.k);
    const float* v = GatherF32(tile, tile.v, a.kv_bf16, a.head_dim, s.v);
    for (std::int64_t lane = 0; lane < a.rows; lane += kF32Vecs * kLanes) {
      const FetchAside aside{next, lane == 0 ? next.keys : 0, row_bytes, a.head_dim};
      step(a, s, 0, lane, k, v, tile.keys, limits, aside);
    }
  }
  StoreAttention(a, s.o, s.sum);
}

}  // namespace
}  // namespace longshadow::cpu

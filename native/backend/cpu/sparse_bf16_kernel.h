// Sparse attention of a block of rows of one query head with bf16 dot products. Include after
// prefill_bf16_kernel.h and sparse_f32_kernel.h. The arithmetic is the dense kernel's; keys that do
// not lie together are copied to a tile, and values, which are packed as pairs anyway, are packed
// from where they are.
//
// Copying costs 2 head_dim bytes read and written for each key, against 256 head_dim flops.
#pragma once

#include "prefill_bf16_kernel.h"
#include "sparse_f32_kernel.h"

namespace longshadow::cpu {
namespace {

std::int64_t SparseBf16Words(std::int64_t head_dim) {
  return Bf16PrefillWords(head_dim, 1) + kTileKeys * head_dim / 2;
}

inline const std::uint16_t* AsBf16(const std::byte* row) {
  return reinterpret_cast<const std::uint16_t*>(row);
}

/// A tile's keys: in place, or copied to `scratch`.
template <int DIM>
inline const std::uint16_t* GatherKeys(const SparseTile& tile, std::int64_t head_dim,
                                       std::uint16_t* scratch) {
  if (tile.contiguous) return AsBf16(tile.k[0]);
  const std::int64_t dim = DIM > 0 ? DIM : head_dim;
  for (std::int64_t j = 0; j < tile.keys; ++j) {
    __builtin_memcpy(scratch + j * dim, tile.k[j], static_cast<std::size_t>(dim) * 2);
  }
  return scratch;
}

/// As PackValues.
template <int DIM>
inline void GatherValues(const SparseTile& tile, std::int64_t head_dim, std::uint32_t* packed) {
  const std::int64_t dim = DIM > 0 ? DIM : head_dim;
  for (std::int64_t j = 0; j < tile.keys; j += 2) {
    PackPair(AsBf16(tile.v[j]), j + 1 < tile.keys ? AsBf16(tile.v[j + 1]) : nullptr, dim,
             packed + j / 2 * dim);
  }
}

template <int VECS, int DIM>
void SparseBf16Block(const SparseArgs& args) {
  const PrefillArgs& a = args.block;
  const Bf16PrefillScratch s = LayOutBf16(a);
  const std::int64_t dim = DIM > 0 ? DIM : a.head_dim;
  auto* gathered = reinterpret_cast<std::uint16_t*>(s.v + kTileKeys / 2 * dim);
  TileWalk walk(args);
  SparseTile tiles[2];
  walk.Next(kTileKeys, tiles[0]);
  FetchAside{tiles[0], tiles[0].keys, dim * 2, dim}.All();
  LoadQueriesBf16(a, s);
  alignas(64) std::int32_t storage[kBlockRows];
  for (int now = 0; tiles[now].keys > 0; now ^= 1) {
    const SparseTile& tile = tiles[now];
    SparseTile& next = tiles[now ^ 1];
    walk.Next(kTileKeys, next);
    const std::int32_t* limits = SparseLimits(a, tile, storage);
    GatherValues<DIM>(tile, dim, s.v);
    const std::uint16_t* k = GatherKeys<DIM>(tile, dim, gathered);
    TileStepBf16<VECS, DIM>(a, s, 0, k, tile.keys, limits,
                            FetchAside{next, next.keys, dim * 2, dim});
  }
  StoreAttention(a, s.o, s.sum);
}

template <int DIM>
void SparseBf16Rows(const SparseArgs& args) {
  if (args.block.rows <= kLanes) {
    SparseBf16Block<1, DIM>(args);
  } else if (args.block.rows <= 2 * kLanes) {
    SparseBf16Block<2, DIM>(args);
  } else {
    SparseBf16Block<kBf16Vecs, DIM>(args);
  }
}

/// bf16 queries over a bf16 cache; anything else goes to the fp32 kernel.
void SparseBf16(const SparseArgs& args) {
  if (!args.block.q_bf16 || !args.block.kv_bf16) {
    SparseF32(args);
    return;
  }
  switch (args.block.head_dim) {
    case 64:
      SparseBf16Rows<64>(args);
      break;
    case 96:
      SparseBf16Rows<96>(args);
      break;
    case 128:
      SparseBf16Rows<128>(args);
      break;
    default:
      SparseBf16Rows<0>(args);
      break;
  }
}

}  // namespace
}  // namespace longshadow::cpu

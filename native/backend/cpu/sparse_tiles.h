// The keys of one task of sparse attention, in tiles. Include after math_kernels.h.
//
// Columns go first, then runs, both ascending, and a tile takes whatever comes next: isolated
// columns and short runs share tiles, since the arithmetic pays for each tile. All keys that a row
// may not see lie behind all that it sees, and in the runs alone. So a row's limit inside a tile is
// one number, and neither its tiles nor its bits depend on the rows after it in the block.
#pragma once

#include "math_kernels.h"

namespace longshadow::cpu {
namespace {

/// Up to kTileKeys keys with the addresses of their rows.
struct SparseTile {
  std::int64_t keys = 0;
  bool contiguous = false;  // the rows lie one behind the other in one page
  std::uint32_t position[kTileKeys];
  const std::byte* k[kTileKeys];
  const std::byte* v[kTileKeys];
};

/// Cuts a task's keys into tiles, in order.
class TileWalk {
 public:
  explicit TileWalk(const SparseArgs& args)
      : args_(args), row_bytes_(args.block.head_dim * (args.block.kv_bf16 ? 2 : 4)) {
    if (args.range_count > 0) key_ = args.ranges[0];
  }

  /// The next `limit` keys, or as many as there are: 0 at the end.
  void Next(std::int64_t limit, SparseTile& tile) {
    tile.keys = 0;
    while (tile.keys < limit && column_ < args_.column_count) {
      AddRun(args_.columns[column_++], 1, tile);
    }
    std::int64_t pieces = tile.keys;
    while (tile.keys < limit && range_ < args_.range_count) {
      const std::int64_t end = args_.ranges[2 * range_ + 1];
      const std::int64_t page_end = (key_ / kPage + 1) * kPage;
      std::int64_t count = (end < page_end ? end : page_end) - key_;
      if (count > limit - tile.keys) count = limit - tile.keys;
      AddRun(key_, count, tile);
      ++pieces;
      key_ += count;
      if (key_ == end && ++range_ < args_.range_count) key_ = args_.ranges[2 * range_];
    }
    tile.contiguous = pieces == 1;
  }

 private:
  static constexpr std::int64_t kPage = 512;

  /// Keys [first, first + count) of one page.
  void AddRun(std::int64_t first, std::int64_t count, SparseTile& tile) const {
    const std::int64_t offset = args_.block.plane_offset + first % kPage * row_bytes_;
    const std::byte* k = args_.block.k_pages[first / kPage] + offset;
    const std::byte* v = args_.block.v_pages[first / kPage] + offset;
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t at = tile.keys + j;
      tile.position[at] = static_cast<std::uint32_t>(first + j);
      tile.k[at] = k + j * row_bytes_;
      tile.v[at] = v + j * row_bytes_;
    }
    tile.keys += count;
  }

  const SparseArgs& args_;
  std::int64_t row_bytes_;
  std::int64_t column_ = 0;
  std::int64_t range_ = 0;
  std::int64_t key_ = 0;  // next one of range_
};

/// limits[r] = the last key of the tile that row r may see (padding rows: row rows - 1), or null
/// when every row sees every key. A tile's keys that lie behind the first row ascend.
inline const std::int32_t* SparseLimits(const PrefillArgs& a, const SparseTile& tile,
                                        std::int32_t* limits) {
  if (tile.position[tile.keys - 1] <= a.position) return nullptr;
  std::int32_t seen = 0;
  for (std::int32_t r = 0; r < kBlockRows; ++r) {
    const std::int64_t row = a.position + (r < a.rows ? r : a.rows - 1);
    while (seen < tile.keys && tile.position[seen] <= row) ++seen;
    limits[r] = seen - 1;
  }
  return limits;
}

/// Fetches the rows of the next tile while the arithmetic of this one runs: scattered rows are
/// beyond what hardware foresees, and all at once they would wait for one another.
struct FetchAside {
  const SparseTile& next;
  std::int64_t keys;  // of next; 0: fetch nothing
  std::int64_t row_bytes;
  std::int64_t head_dim;

  static void Fetch(const std::byte* row, std::int64_t bytes) {
    for (std::int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
  }
  /// Beside keys [first, first + count) of this tile.
  void AtKeys(std::int64_t first, std::int64_t count) const {
    const std::int64_t end = first + count < keys ? first + count : keys;
    for (std::int64_t j = first; j < end; ++j) Fetch(next.k[j], row_bytes);
  }
  /// Beside dimensions [first, first + count) of its values.
  void AtValues(std::int64_t first, std::int64_t count) const {
    const std::int64_t end = (first + count) * keys / head_dim;
    for (std::int64_t j = first * keys / head_dim; j < end; ++j) Fetch(next.v[j], row_bytes);
  }
  void All() const {
    AtKeys(0, keys);
    AtValues(0, head_dim);
  }
};

}  // namespace
}  // namespace longshadow::cpu

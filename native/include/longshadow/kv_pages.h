#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "longshadow/dtype.h"

namespace longshadow {

/// Tokens in one KV page. Segments begin at multiples of it by absolute position.
inline constexpr std::int64_t kPageTokens = 512;
/// Consecutive tokens of one value chunk: ShadowKV's unit of selection.
inline constexpr std::int64_t kValueChunkTokens = 8;

/// Shape of the KV pages of one stage. A page holds, for 512 positions, one *plane* for every
/// (layer of the stage, kv head): rows of head_dim elements in position order, that is
/// [layer][kv_head][64 value chunks][8 tokens][head_dim].
struct KvGeometry {
  std::int32_t layers = 0;    // layers of this stage
  std::int32_t kv_heads = 0;  // kv heads a layer
  std::int32_t head_dim = 0;
  DType dtype = DType::kBF16;

  std::int64_t PlaneBytes() const {
    return kPageTokens * head_dim * static_cast<std::int64_t>(DTypeBytes(dtype));
  }
  /// Bytes of one K page (a V page has as many).
  std::int64_t PageBytes() const { return PlaneBytes() * layers * kv_heads; }
  /// Byte offset of a plane inside a page. `layer` counts from the stage's first layer.
  std::int64_t PlaneOffset(std::int32_t layer, std::int32_t kv_head) const {
    return (static_cast<std::int64_t>(layer) * kv_heads + kv_head) * PlaneBytes();
  }
  /// K and V bytes of one token over the stage's layers.
  std::int64_t BytesPerToken() const { return 2 * PageBytes() / kPageTokens; }
};

/// Page table of one session as kernels see it. Element p is the first byte of the page that
/// holds positions [512 p, 512 p + 512). Pages of sealed segments are mapped read-only: only
/// the pages of the rows being appended may be written.
struct KvPages {
  std::span<std::byte* const> k;
  std::span<std::byte* const> v;
};

}  // namespace longshadow

#pragma once

#include <cstdint>

#include "longshadow/kv_pages.h"

namespace longshadow {

/// Limits that keep every size below 2^63: a page is at most 2^19 * 2^10 * 2^10 = 2^39 bytes and a
/// session has at most 2^22 pages.
inline constexpr std::int32_t kMaxLayers = 1024;
inline constexpr std::int32_t kMaxKvHeads = 1024;
inline constexpr std::int32_t kMaxHeadDim = 256;
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 31;

/// Throws kInvalidArgument unless the geometry lies within the limits.
void CheckGeometry(const KvGeometry& geometry);

/// Pages that hold positions [0, tokens).
constexpr std::int64_t PagesOf(std::int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

}  // namespace longshadow

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "longshadow/backend.h"

namespace longshadow::bench {

/// A cache of one layer and two kv heads with `keys` random positions.
struct Cache {
  Cache(const KvGeometry& geometry, std::int64_t keys, const std::vector<BFloat16>& random) {
    const std::int64_t pages = (keys + kPageTokens - 1) / kPageTokens;
    const auto bytes = static_cast<std::size_t>(pages * geometry.PageBytes());
    memory.resize(2 * bytes);
    for (std::size_t at = 0; at < memory.size();) {
      const std::size_t part = std::min(memory.size() - at, random.size() * 2);
      std::memcpy(memory.data() + at, random.data(), part);
      at += part;
    }
    for (std::int64_t p = 0; p < pages; ++p) {
      k.push_back(memory.data() + p * geometry.PageBytes());
      v.push_back(memory.data() + bytes + static_cast<std::size_t>(p * geometry.PageBytes()));
    }
  }
  std::vector<std::byte> memory;
  std::vector<std::byte*> k, v;
};

}  // namespace longshadow::bench

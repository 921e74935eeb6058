#pragma once

#include <atomic>
#include <cstdint>

namespace longshadow {

/// What this process holds now, over all stores. Back to zero once every session is closed.
struct KvCounters {
  std::atomic<std::int64_t> mappings{0};       // segment files mapped
  std::atomic<std::int64_t> mapped_bytes{0};   // their bytes
  std::atomic<std::int64_t> private_bytes{0};  // private KV pages
};

inline KvCounters& ProcessKvCounters() {
  static KvCounters counters;
  return counters;
}

}  // namespace longshadow

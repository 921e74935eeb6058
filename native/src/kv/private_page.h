#pragma once

#include <cstddef>
#include <cstdint>

namespace longshadow {

/// K and V of one page index outside any file: one anonymous mapping, zero-filled, never moved.
/// Counted in ProcessKvCounters().private_bytes.
class PrivatePage {
 public:
  /// Throws kValueStoreFull when the system gives no memory.
  explicit PrivatePage(std::int64_t page_bytes);
  ~PrivatePage();
  PrivatePage(PrivatePage&& other) noexcept;
  PrivatePage(const PrivatePage&) = delete;
  PrivatePage& operator=(const PrivatePage&) = delete;
  PrivatePage& operator=(PrivatePage&&) = delete;

  std::byte* k() const { return data_; }
  std::byte* v() const { return data_ + page_bytes_; }
  /// Of K and V together.
  std::int64_t bytes() const { return 2 * page_bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t page_bytes_ = 0;
};

}  // namespace longshadow

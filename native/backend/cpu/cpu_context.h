#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "longshadow/error.h"
#include "thread_pool.h"

namespace longshadow::cpu {

/// 64-byte-aligned memory that only grows; growing drops the content.
class AlignedBuffer {
 public:
  std::byte* Reserve(std::int64_t bytes) {
    if (bytes > bytes_) {
      const std::int64_t rounded = (bytes + 63) / 64 * 64;
      data_.reset();
      bytes_ = 0;
      data_.reset(
          static_cast<std::byte*>(std::aligned_alloc(64, static_cast<std::size_t>(rounded))));
      if (data_ == nullptr) {
        throw Error(ErrorCode::kInternal, "out of memory: " + std::to_string(rounded) + " bytes");
      }
      bytes_ = rounded;
    }
    return data_.get();
  }
  const std::byte* data() const { return data_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Release {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Release> data_;
  std::int64_t bytes_ = 0;
};

/// What every operation needs: the chosen kernels, the threads, and scratch for each thread.
struct CpuContext {
  CpuContext(const Kernels& chosen, std::int32_t threads)
      : kernels(chosen), pool(threads), scratch(static_cast<std::size_t>(pool.threads())) {}

  std::byte* Scratch(std::int32_t thread, std::int64_t bytes) {
    return scratch[static_cast<std::size_t>(thread)].Reserve(bytes);
  }

  const Kernels& kernels;
  ThreadPool pool;
  std::vector<AlignedBuffer> scratch;
};

/// Throws kInvalidArgument with `what` unless `condition` holds: a shape the contract forbids.
inline void Require(bool condition, const char* what) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, std::string("cpu backend: ") + what);
}

}  // namespace longshadow::cpu

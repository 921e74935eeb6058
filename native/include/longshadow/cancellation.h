#pragma once

#include <atomic>
#include <memory>

#include "longshadow/error.h"

namespace longshadow {

/// A flag that any thread may raise and long work polls (between products, pages and tensors).
class CancellationFlag {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  /// Throws Error(kCancelled) with `message` once the flag is raised.
  void ThrowIfCancelled(const char* message = "the session was cancelled") const {
    if (cancelled()) throw Error(ErrorCode::kCancelled, message);
  }

 private:
  std::atomic<bool> cancelled_{false};
};

/// Polls the flag, where there is one.
inline void ThrowIfCancelled(const CancellationFlag* flag) {
  if (flag != nullptr) flag->ThrowIfCancelled();
}

}  // namespace longshadow

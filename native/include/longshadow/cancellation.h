#pragma once

#include <atomic>
#include <memory>

#include "longshadow/error.h"

namespace longshadow {

/// A flag that any thread may raise and long work polls (per layer and row block).
class CancellationFlag {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  /// Throws Error(kCancelled) once the flag is raised.
  void ThrowIfCancelled() const {
    if (cancelled()) throw Error(ErrorCode::kCancelled, "the session was cancelled");
  }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace longshadow

#pragma once

#include <algorithm>

#include "longshadow/engine.h"

namespace longshadow {

/// Tells a run's progress as the share of its arithmetic that is done.
class ProgressMeter {
 public:
  /// callback: may be empty; must outlive the meter.
  ProgressMeter(double flops, const ProgressCallback& callback)
      : flops_(flops), callback_(callback) {}

  void Done(double flops) {
    done_ += flops;
    if (callback_) callback_(std::min(1.0, done_ / flops_));
  }

 private:
  double flops_;
  double done_ = 0;
  const ProgressCallback& callback_;
};

}  // namespace longshadow

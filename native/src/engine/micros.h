#pragma once

#include <chrono>
#include <cstdint>

namespace longshadow {

/// Adds the microseconds of its scope to a sum.
class AddMicros {
 public:
  explicit AddMicros(std::int64_t& sum) : sum_(sum) {}
  ~AddMicros() {
    sum_ += std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                  start_)
                .count();
  }
  AddMicros(const AddMicros&) = delete;
  AddMicros& operator=(const AddMicros&) = delete;

 private:
  std::int64_t& sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace longshadow

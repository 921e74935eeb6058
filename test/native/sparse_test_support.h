#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow::sparse_test {

/// Other numbers in every run, or those of LONGSHADOW_TEST_SEED. Failures print the seed.
class Random {
 public:
  Random() : seed_(Choose()), bits_(seed_), trace_(__FILE__, __LINE__, "seed " + Text()) {}

  /// In [0, limit).
  std::int64_t Below(std::int64_t limit) {
    return std::uniform_int_distribution<std::int64_t>(0, limit - 1)(bits_);
  }
  bool Chance(double share) { return std::uniform_real_distribution<double>()(bits_) < share; }

  /// About `count` numbers below `limit`, ascending: some alone, some in clusters.
  std::vector<std::uint32_t> Lines(std::int64_t count, std::int64_t limit) {
    std::vector<std::uint32_t> lines;
    while (static_cast<std::int64_t>(lines.size()) < count) {
      const std::int64_t first = Below(limit);
      const std::int64_t length = Chance(0.5) ? 1 : 1 + Below(40);
      for (std::int64_t i = first; i < std::min(first + length, limit); ++i) {
        lines.push_back(static_cast<std::uint32_t>(i));
      }
    }
    std::ranges::sort(lines);
    const auto repeated = std::ranges::unique(lines);
    lines.erase(repeated.begin(), repeated.end());
    return lines;
  }

  std::mt19937_64& bits() { return bits_; }

 private:
  static std::uint64_t Choose() {
    const char* given = std::getenv("LONGSHADOW_TEST_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  }
  std::string Text() const { return std::to_string(seed_); }

  std::uint64_t seed_;
  std::mt19937_64 bits_;
  testing::ScopedTrace trace_;
};

inline HeadSelection LinesOf(std::vector<std::uint32_t> columns,
                             std::vector<std::uint32_t> distances) {
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = std::move(columns);
  head.distances = std::move(distances);
  return head;
}

/// [0, count).
inline std::vector<std::uint32_t> First(std::int64_t count) {
  std::vector<std::uint32_t> numbers;
  for (std::int64_t i = 0; i < count; ++i) numbers.push_back(static_cast<std::uint32_t>(i));
  return numbers;
}

/// What `call` refuses with kInvalidArgument; "" where it throws nothing.
template <typename Call>
std::string Refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

}  // namespace longshadow::sparse_test

#pragma once

#include <bit>
#include <cstdint>

namespace longshadow {

/// Orders scores as unsigned integers: a < b as scores means ScoreRank(a) < ScoreRank(b); both
/// zeros have one rank; NaN has rank 0, below that of any number.
inline std::uint32_t ScoreRank(float score) {
  const auto bits = std::bit_cast<std::int32_t>(score + 0.0F);  // -0 becomes +0
  // A negative number has all its bits turned over, any other its sign alone.
  const std::uint32_t turned = static_cast<std::uint32_t>(bits >> 31) | 0x80000000U;
  const std::uint32_t rank = static_cast<std::uint32_t>(bits) ^ turned;
  return score == score ? rank : 0U;
}

}  // namespace longshadow

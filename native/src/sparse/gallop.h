#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

/// Searches in ascending numbers that are as fast as the place is near: what a walk over lines
/// skips costs its logarithm, and a walk that skips nothing costs as much as one step by step.
namespace longshadow {

/// The first place in [from, numbers.size()) whose number is `limit` or more; the size where none.
inline std::size_t GallopUp(std::span<const std::uint32_t> numbers, std::size_t from,
                            std::int64_t limit) {
  const auto below = [&](std::uint32_t number) { return number < limit; };
  std::size_t low = from;  // all before it are below the limit
  for (std::size_t step = 1; low < numbers.size(); step *= 2) {
    const std::size_t probe = std::min(low + step, numbers.size()) - 1;
    if (!below(numbers[probe])) {
      const auto part = numbers.subspan(low, probe - low);
      return low +
             static_cast<std::size_t>(std::ranges::partition_point(part, below) - part.begin());
    }
    low = probe + 1;
  }
  return low;
}

/// How many of the first `count` numbers are below `limit`.
inline std::size_t GallopDown(std::span<const std::uint32_t> numbers, std::size_t count,
                              std::int64_t limit) {
  const auto below = [&](std::uint32_t number) { return number < limit; };
  std::size_t high = count;  // none from it on is below the limit
  for (std::size_t step = 1; high > 0; step *= 2) {
    const std::size_t probe = high - std::min(step, high);
    if (below(numbers[probe])) {
      const auto part = numbers.subspan(probe, high - probe);
      return probe +
             static_cast<std::size_t>(std::ranges::partition_point(part, below) - part.begin());
    }
    high = probe;
  }
  return 0;
}

}  // namespace longshadow

#pragma once

#include <array>
#include <cstdint>

namespace longshadow {

/// Philox2x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a keyed
/// bijection of 128-bit counters whose outputs pass as random. No state: the same (counter, key)
/// always gives the same two words.
constexpr std::array<std::uint64_t, 2> Philox2x64(std::array<std::uint64_t, 2> counter,
                                                  std::uint64_t key) {
  constexpr std::uint64_t kMultiplier = 0xd2b74407b1ce6e93ULL;
  constexpr std::uint64_t kWeyl = 0x9e3779b97f4a7c15ULL;
  __extension__ using Wide = unsigned __int128;
  for (int round = 0; round < 10; ++round) {
    const Wide product = static_cast<Wide>(kMultiplier) * counter[0];
    const auto high = static_cast<std::uint64_t>(product >> 64);
    const auto low = static_cast<std::uint64_t>(product);
    counter = {high ^ key ^ counter[1], low};
    key += kWeyl;
  }
  return counter;
}

/// A uniform number in [0, 1) that is a function of (seed, index) alone: the top 53 bits.
constexpr double UniformAt(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(Philox2x64({index, 0}, seed)[0] >> 11) * 0x1.0p-53;
}

}  // namespace longshadow

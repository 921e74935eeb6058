#include "engine/sparse_guard.h"

#include <limits>
#include <vector>

namespace longshadow {
namespace {

/// 2^64 / golden ratio: multiples of it, modulo 2^64, fill the numbers evenly at any stride.
constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;

/// SplitMix64's finaliser: every bit of the result depends on every bit of the number.
std::uint64_t Mix(std::uint64_t number) {
  number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9U;
  number = (number ^ (number >> 27)) * 0x94D049BB133111EBU;
  return number ^ (number >> 31);
}

}  // namespace

std::optional<GuardSample> SampleForGuard(std::int32_t interval,
                                          std::span<const HeadBudget> budgets, std::int64_t begin,
                                          std::int32_t layer, std::int32_t layers,
                                          std::int64_t blocks) {
  if (interval == 0) return std::nullopt;
  const auto number = static_cast<std::uint64_t>(begin / kPageTokens * layers + layer);
  const std::uint64_t part =
      std::numeric_limits<std::uint64_t>::max() / static_cast<std::uint64_t>(interval);
  if (number * kGolden > part) return std::nullopt;
  std::vector<std::int32_t> choosing;
  for (std::size_t head = 0; head < budgets.size(); ++head) {
    if (budgets[head].pattern != HeadPattern::kDense) {
      choosing.push_back(static_cast<std::int32_t>(head));
    }
  }
  const std::uint64_t random = Mix(number + kGolden);
  return GuardSample{static_cast<std::int64_t>((random >> 32) % static_cast<std::uint64_t>(blocks)),
                     choosing[static_cast<std::size_t>((random & 0xffffffffU) % choosing.size())]};
}

}  // namespace longshadow

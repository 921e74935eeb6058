#include "sparse/mass_cut.h"

#include <algorithm>
#include <bit>

namespace longshadow {
namespace {

/// Positive floats order as their bits do. Their upper 16 bits have the sign's 0 in front.
constexpr std::size_t kUpperBins = 1 << 15;
constexpr std::size_t kLowerBins = 1 << 16;

std::uint32_t Bits(float mass) { return std::bit_cast<std::uint32_t>(mass); }

}  // namespace

MassHistogram::MassHistogram() : sums_(kUpperBins), counts_(kUpperBins) {}

void MassHistogram::Add(std::span<const float> masses, float floor) {
  for (const float mass : masses) {
    if (!(mass > floor)) continue;
    const std::uint32_t bin = Bits(mass) >> 16;
    sums_[bin] += static_cast<double>(mass);
    ++counts_[bin];
  }
}

void MassHistogram::SetTarget(double target) {
  target_ = target;
  for (std::size_t bin = kUpperBins; bin-- > 0;) {
    if (kept_sum_ + sums_[bin] > target_) {
      cut_bin_ = static_cast<std::int64_t>(bin);
      lower_.assign(kLowerBins, 0);
      return;
    }
    kept_sum_ += sums_[bin];
    kept_ += counts_[bin];
  }
}

void MassHistogram::AddAgain(std::span<const float> masses) {
  if (cut_bin_ < 0) return;
  const auto bin = static_cast<std::uint32_t>(cut_bin_);
  for (const float mass : masses) {
    if (Bits(mass) >> 16 == bin && mass > 0) ++lower_[Bits(mass) & 0xffffU];
  }
}

MassCut MassHistogram::Cut() {
  if (cut_bin_ < 0) return {};
  MassCut cut;
  for (std::size_t low = kLowerBins; low-- > 0;) {
    if (lower_[low] == 0) continue;
    cut.value = std::bit_cast<float>(static_cast<std::uint32_t>(cut_bin_) << 16 |
                                     static_cast<std::uint32_t>(low));
    const double value = static_cast<double>(cut.value);
    const auto fit = static_cast<std::int64_t>(std::max(0.0, target_ - kept_sum_) / value);
    cut.ties = std::min(fit, lower_[low]);
    kept_sum_ += static_cast<double>(cut.ties) * value;
    kept_ += cut.ties;
    if (cut.ties < lower_[low]) return cut;
  }
  return cut;
}

}  // namespace longshadow

#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longshadow {

/// Which masses of a sequence are kept: those above `value`, and the first `ties` of those equal.
struct MassCut {
  float value = 0;
  std::int64_t ties = 0;
};

/// Finds the largest masses of a long sequence that sum to no more than a target, without a copy of
/// it: the sequence is fed twice, in the same order. Two levels of a radix histogram: the upper 16
/// bits of the numbers first, then the lower ones of those that share the upper bits of the cut.
/// What is not above zero (NaN included) is never kept.
class MassHistogram {
 public:
  MassHistogram();

  /// The first feed. Masses up to `floor` need not be told apart: the caller knows that none of
  /// them is kept.
  void Add(std::span<const float> masses, float floor = 0);
  /// Between the feeds. target: infinite to keep everything above zero.
  void SetTarget(double target);
  /// After SetTarget: false where everything is kept.
  bool NeedsSecondFeed() const { return cut_bin_ >= 0; }
  /// The second feed.
  void AddAgain(std::span<const float> masses);
  /// After the second feed, if it needs one.
  MassCut Cut();

  /// Sum and number of what the cut keeps. After Cut.
  double kept_sum() const { return kept_sum_; }
  std::int64_t kept() const { return kept_; }

 private:
  std::vector<double> sums_;          // by upper bits
  std::vector<std::int64_t> counts_;  // by upper bits
  std::vector<std::int64_t> lower_;   // by lower bits, of the bin that is cut
  double target_ = 0;
  double kept_sum_ = 0;
  std::int64_t kept_ = 0;
  std::int64_t cut_bin_ = -1;  // -1: everything is kept
};

}  // namespace longshadow

// Radix select: the rank of the smallest score that is taken is found digit by digit from
// histograms, then one pass collects what lies above it. Three passes over the scores in all,
// whatever `count`.
#include <algorithm>
#include <array>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "sparse/score_rank.h"

namespace longshadow {
namespace {

constexpr int kDigitBits = 11;
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;
using Histogram = std::array<std::uint32_t, kDigits>;

/// Where the taken scores end: all of a higher rank, and the first `ties` of this one.
struct Cut {
  std::uint32_t rank = 0;
  std::size_t ties = 0;
};

/// Two histograms in turn, so that runs of one digit do not wait for their own last store.
template <typename Rank>
Histogram CountDigits(std::size_t size, int shift, const Rank& rank_of) {
  Histogram even{};
  Histogram odd{};
  const auto digit = [&](std::size_t i) { return (rank_of(i) >> shift) & (kDigits - 1); };
  std::size_t i = 0;
  for (; i + 1 < size; i += 2) {
    ++even[digit(i)];
    ++odd[digit(i + 1)];
  }
  if (i < size) ++even[digit(i)];
  for (std::size_t d = 0; d < kDigits; ++d) even[d] += odd[d];
  return even;
}

/// The digit that the `count`-th largest has; leaves in `count` its place among that digit's.
std::uint32_t DigitOfNth(const Histogram& histogram, std::size_t& count) {
  std::size_t digit = kDigits - 1;
  while (histogram[digit] < count) count -= histogram[digit--];
  return static_cast<std::uint32_t>(digit);
}

/// 0 < count <= scores.size().
Cut FindCut(std::span<const float> scores, std::size_t count) {
  constexpr int kTop = 32 - kDigitBits;
  const auto of_score = [&](std::size_t i) { return ScoreRank(scores[i]); };
  const Histogram top = CountDigits(scores.size(), kTop, of_score);
  std::uint32_t prefix = DigitOfNth(top, count);

  std::vector<std::uint32_t> ranks(top[prefix] +
                                   1);  // one more: the slot behind the last is written
  std::size_t kept = 0;
  for (const float score : scores) {
    const std::uint32_t rank = ScoreRank(score);
    ranks[kept] = rank;
    kept += (rank >> kTop) == prefix ? 1 : 0;
  }
  const auto of_kept = [&](std::size_t i) { return ranks[i]; };
  const std::uint32_t middle = DigitOfNth(CountDigits(kept, kTop - kDigitBits, of_kept), count);
  prefix = (prefix << kDigitBits) | middle;
  const auto last =
      std::remove_if(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(kept),
                     [&](auto rank) { return rank >> (kTop - kDigitBits) != prefix; });
  kept = static_cast<std::size_t>(last - ranks.begin());
  constexpr int kRest = kTop - kDigitBits;
  const std::uint32_t low_mask = (1U << kRest) - 1;
  const auto low = [&](std::size_t i) { return ranks[i] & low_mask; };
  return {(prefix << kRest) | DigitOfNth(CountDigits(kept, 0, low), count), count};
}

std::vector<std::uint32_t> Above(std::span<const float> scores, Cut cut, std::size_t count) {
  std::vector<std::uint32_t> taken(count + 1);  // one more: the slot behind the last is written
  std::size_t size = 0;
  for (std::size_t i = 0; size < count; ++i) {
    const std::uint32_t rank = ScoreRank(scores[i]);
    const bool ties = rank == cut.rank && cut.ties > 0;
    cut.ties -= ties ? 1 : 0;
    taken[size] = static_cast<std::uint32_t>(i);
    size += rank > cut.rank || ties ? 1 : 0;
  }
  taken.pop_back();
  return taken;
}

}  // namespace

std::vector<std::uint32_t> LargestScores(std::span<const float> scores, std::int64_t count) {
  if (count <= 0) return {};
  const auto wanted = static_cast<std::size_t>(count);
  if (wanted < scores.size()) return Above(scores, FindCut(scores, wanted), wanted);
  std::vector<std::uint32_t> all(scores.size());
  std::iota(all.begin(), all.end(), 0U);
  return all;
}

}  // namespace longshadow

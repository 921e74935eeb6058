// Few of many are wanted, so most scores are looked at once only, by vectors: the largest of each
// group of 16. As many groups as scores are wanted have theirs at or above the bound that a radix
// select finds among these, so that no score below it is taken; what remains is little.
#include <algorithm>
#include <array>
#include <numeric>

#include "longshadow/sparse_selection.h"
#include "sparse/score_rank.h"

namespace longshadow {
namespace {

using Ranks = std::span<const std::uint32_t>;

constexpr std::size_t kGroup = 16;
constexpr int kDigitBits = 11;
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;
using Histogram = std::array<std::uint32_t, kDigits>;

/// Where the taken ranks end: all that are higher, and the first `ties` of this one.
struct Cut {
  std::uint32_t rank = 0;
  std::size_t ties = 0;
};

/// The rank's bits from `shift` on that belong to one digit.
std::size_t Digit(std::uint32_t rank, int shift) { return (rank >> shift) & (kDigits - 1); }

/// Two histograms in turn, so that runs of one digit do not wait for their own last store.
Histogram CountDigits(Ranks ranks, int shift) {
  Histogram even{};
  Histogram odd{};
  std::size_t i = 0;
  for (; i + 1 < ranks.size(); i += 2) {
    ++even[Digit(ranks[i], shift)];
    ++odd[Digit(ranks[i + 1], shift)];
  }
  if (i < ranks.size()) ++even[Digit(ranks[i], shift)];
  for (std::size_t d = 0; d < kDigits; ++d) even[d] += odd[d];
  return even;
}

/// The cut that takes `count` of the ranks, 0 < count <= ranks.size(), digit by digit from the top.
Cut FindCut(Ranks ranks, std::size_t count) {
  std::vector<std::uint32_t> same;  // those whose digits so far are the cut's
  std::uint32_t prefix = 0;
  for (const int shift : {2 * kDigitBits, kDigitBits, 0}) {
    const Histogram histogram = CountDigits(ranks, shift);
    std::size_t digit = kDigits - 1;
    while (histogram[digit] < count) count -= histogram[digit--];
    prefix |= static_cast<std::uint32_t>(digit) << shift;
    std::vector<std::uint32_t> kept(histogram[digit] + 1);  // the slot behind the last is written
    std::size_t size = 0;
    for (const std::uint32_t rank : ranks) {
      kept[size] = rank;
      size += Digit(rank, shift) == digit ? 1 : 0;
    }
    kept.resize(size);
    same.swap(kept);
    ranks = same;
  }
  return {prefix, count};
}

/// The highest rank of each group of scores; the last group may be short.
std::vector<std::uint32_t> HighestOfGroups(std::span<const float> scores) {
  std::vector<std::uint32_t> highest((scores.size() + kGroup - 1) / kGroup, 0U);
  const std::size_t full = scores.size() / kGroup;
  for (std::size_t group = 0; group < full; ++group) {
    const float* first = scores.data() + group * kGroup;
    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < kGroup; ++i) rank = std::max(rank, ScoreRank(first[i]));
    highest[group] = rank;
  }
  for (std::size_t i = full * kGroup; i < scores.size(); ++i) {
    highest[full] = std::max(highest[full], ScoreRank(scores[i]));
  }
  return highest;
}

struct Ranked {
  std::vector<std::uint32_t> positions;  // ascending
  std::vector<std::uint32_t> ranks;
};

/// The scores that may be among the `count` largest: those above the rank of the cut that takes
/// `count` groups, and the first `count` of that rank.
Ranked Remaining(std::span<const float> scores, std::size_t count) {
  const std::vector<std::uint32_t> highest = HighestOfGroups(scores);
  const std::uint32_t bound = count < highest.size() ? FindCut(highest, count).rank : 0;
  const auto above = std::ranges::count_if(highest, [&](auto rank) { return rank > bound; });
  const std::size_t most = static_cast<std::size_t>(above) * kGroup + count;
  Ranked remaining;
  remaining.positions.resize(std::min(most, scores.size()) + 1);  // one more is written
  remaining.ranks.resize(remaining.positions.size());
  std::size_t size = 0;
  std::size_t ties = count;
  for (std::size_t group = 0; group < highest.size(); ++group) {
    if (highest[group] < bound || (highest[group] == bound && ties == 0)) continue;
    const std::size_t end = std::min((group + 1) * kGroup, scores.size());
    for (std::size_t i = group * kGroup; i < end; ++i) {
      const std::uint32_t rank = ScoreRank(scores[i]);
      const bool tie = rank == bound && ties > 0;
      ties -= tie ? 1 : 0;
      remaining.positions[size] = static_cast<std::uint32_t>(i);
      remaining.ranks[size] = rank;
      size += rank > bound || tie ? 1 : 0;
    }
  }
  remaining.positions.resize(size);
  remaining.ranks.resize(size);
  return remaining;
}

}  // namespace

std::vector<std::uint32_t> LargestScores(std::span<const float> scores, std::int64_t count) {
  if (count <= 0) return {};
  const auto wanted = static_cast<std::size_t>(count);
  if (wanted >= scores.size()) {
    std::vector<std::uint32_t> all(scores.size());
    std::iota(all.begin(), all.end(), 0U);
    return all;
  }
  Ranked remaining = Remaining(scores, wanted);
  Cut cut = FindCut(remaining.ranks, wanted);
  std::size_t size = 0;
  for (std::size_t i = 0; i < remaining.ranks.size(); ++i) {
    const bool tie = remaining.ranks[i] == cut.rank && cut.ties > 0;
    cut.ties -= tie ? 1 : 0;
    remaining.positions[size] = remaining.positions[i];
    size += remaining.ranks[i] > cut.rank || tie ? 1 : 0;
  }
  remaining.positions.resize(size);
  return std::move(remaining.positions);
}

}  // namespace longshadow

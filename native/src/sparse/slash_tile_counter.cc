#include "sparse/slash_tile_counter.h"

#include <algorithm>
#include <bit>

#include "longshadow/sparse_prefill.h"

namespace longshadow {
namespace {

constexpr int kWordBits = 64;

}  // namespace

NumberSet::NumberSet(std::int64_t bound) {
  std::int64_t size = bound;
  do {
    size = size / kWordBits + 1;  // LargestBelow may look at the word of the bound itself
    levels_.emplace_back(static_cast<std::size_t>(size), 0U);
  } while (size > 1);
}

void NumberSet::Insert(std::int64_t number) {
  for (auto& level : levels_) {
    level[number / kWordBits] |= std::uint64_t{1} << (number % kWordBits);
    number /= kWordBits;
  }
}

std::int64_t NumberSet::LargestBelow(std::int64_t limit) const {
  for (std::size_t up = 0; up < levels_.size(); ++up) {
    const std::int64_t word = limit / kWordBits;
    const std::uint64_t below = (std::uint64_t{1} << (limit % kWordBits)) - 1;
    const std::uint64_t found = levels_[up][word] & below;
    limit = word;
    if (found == 0) continue;
    std::int64_t number = word * kWordBits + std::bit_width(found) - 1;
    while (up-- > 0) {
      number = number * kWordBits + std::bit_width(levels_[up][number]) - 1;
    }
    return number;
  }
  return -1;
}

// Where SweepDistances ends a tile at `end`, here is its nearest distance, position + 64 - end: a
// distance that is nearer than the last tile's nearest adds a tile, whose nearest is 64 less where
// that suffices, else that distance. Positions are left out: far from the start they shift all
// alike.
void SlashTileCounter::Insert(std::int64_t distance) {
  distances_.Insert(distance);
  const auto hit = std::ranges::partition_point(
      tiles_, [&](const Tile& tile) { return tile.nearest > distance; });
  // Unless the tile begins a run, it lies where it does for any of its distances.
  if (hit != tiles_.end() && (!hit->begins_run || hit->nearest == distance)) return;
  SweepFrom(hit, distance);
}

void SlashTileCounter::InsertAll(std::span<const std::uint32_t> distances) {
  for (const std::uint32_t distance : distances) distances_.Insert(distance);
  tiles_.clear();
  SweepFrom(tiles_.end(), distances_.LargestBelow(keys_));
}

void SlashTileCounter::SweepFrom(Tiles::iterator hit, std::int64_t distance) {
  // Sweeps on from here until it comes to where it came before. Where it ends sooner, at most one
  // old tile is left: a second one would have a distance nearer than where the sweep ended.
  fresh_.clear();
  auto old = hit;
  const Tile* last = hit == tiles_.begin() ? nullptr : &*(hit - 1);
  for (std::int64_t next = distance; next >= 0;) {
    const bool begins_run = last == nullptr || next < last->nearest - kBlockTokens;
    const std::int64_t nearest = begins_run ? next : last->nearest - kBlockTokens;
    last = &fresh_.emplace_back(nearest, begins_run);
    while (old != tiles_.end() && old->nearest > nearest) ++old;
    if (old != tiles_.end() && old->nearest == nearest) break;
    next = distances_.LargestBelow(std::max(nearest, INT64_C(0)));
  }
  Replace(hit, old == tiles_.end() ? old : old + 1);
}

void SlashTileCounter::Replace(Tiles::iterator begin, Tiles::iterator end) {
  const auto common = std::min(end - begin, std::ssize(fresh_));
  begin = std::copy_n(fresh_.begin(), common, begin);
  if (begin < end) {
    tiles_.erase(begin, end);
  } else {
    tiles_.insert(begin, fresh_.begin() + common, fresh_.end());
  }
}

}  // namespace longshadow

#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longshadow {

/// A set of numbers below a bound that finds neighbours in constant time: a tree of 64-bit words,
/// each bit of which says that a word of the level below is not empty.
class NumberSet {
 public:
  explicit NumberSet(std::int64_t bound);
  void Insert(std::int64_t number);
  /// The largest member below `limit` (0 to the bound); -1 where there is none.
  std::int64_t LargestBelow(std::int64_t limit) const;

 private:
  std::vector<std::vector<std::uint64_t>> levels_;  // [0]: the members
};

/// SlashTiles of a set of distances that grows one by one. Never fewer tiles after an Insert than
/// before it.
class SlashTileCounter {
 public:
  /// Distances are below `keys`.
  explicit SlashTileCounter(std::int64_t keys) : keys_(keys), distances_(keys) {}
  void Insert(std::int64_t distance);
  /// As Insert of each, but for the cost: once the number of tiles, however many there are.
  void InsertAll(std::span<const std::uint32_t> distances);
  std::int64_t tiles() const { return static_cast<std::int64_t>(tiles_.size()); }

 private:
  /// A tile of the sweep, which goes from far to near: the distances [nearest, the last tile's)
  /// need no other.
  struct Tile {
    std::int64_t nearest = 0;
    bool begins_run = false;
  };
  using Tiles = std::vector<Tile>;

  /// Sweeps on from `distance`, which begins a tile in the place of `hit`.
  void SweepFrom(Tiles::iterator hit, std::int64_t distance);
  /// Puts the fresh tiles in the place of [begin, end).
  void Replace(Tiles::iterator begin, Tiles::iterator end);

  std::int64_t keys_;
  NumberSet distances_;
  Tiles tiles_;
  Tiles fresh_;  // of the sweep that runs
};

}  // namespace longshadow

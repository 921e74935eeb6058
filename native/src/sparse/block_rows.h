#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/sparse_prefill.h"

/// What the patterns of key blocks share: making the list of one query block.
namespace longshadow {

/// Whether any score is NaN.
bool HasNaN(std::span<const float> scores);

/// The blocks of the `count` largest scores, ascending, with block 0 among them; count >= 1.
std::vector<std::uint32_t> LargestWithFirst(std::span<const float> scores, std::int64_t count);

/// Of a query block's ascending candidates (its own block is the last), the `tiles` of largest
/// score, with block 0 (where it is a candidate) and its own among them; its own alone where tiles
/// is 1. scores: one a candidate. tiles: 0 keeps all.
void KeepLargest(std::vector<std::uint32_t>& blocks, std::span<const float> scores,
                 std::int64_t tiles);

/// A head of form kBlocks that has no query blocks yet.
HeadSelection NoBlocks();
/// Ends the list of one query block.
void AppendBlocks(HeadSelection& head, std::span<const std::uint32_t> blocks);

}  // namespace longshadow

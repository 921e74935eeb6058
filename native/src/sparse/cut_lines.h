#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/sparse_prefill.h"

namespace longshadow {

/// Appends a query block's keys: `runs`, each moved by `shift` keys, cut at position + rows, and
/// those of the ascending `lines` that lie before `position` and in none of the runs.
void CutLines(std::span<const KeyRange> runs, std::int64_t shift,
              std::span<const std::uint32_t> lines, std::int64_t position, std::int64_t rows,
              std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns);

}  // namespace longshadow

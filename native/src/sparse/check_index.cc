#include <algorithm>
#include <string>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, "sparse index: " + what);
}

/// Offsets of entries from 0 to `size`, ascending.
void CheckOffsets(const std::vector<std::int64_t>& offsets, std::int64_t entries, std::size_t size,
                  const char* name) {
  if (static_cast<std::int64_t>(offsets.size()) == entries + 1 && offsets.front() == 0 &&
      offsets.back() == static_cast<std::int64_t>(size) && std::ranges::is_sorted(offsets)) {
    return;
  }
  Refuse(std::string(name) + " offsets must be " + std::to_string(entries + 1) +
         " that ascend from 0 to " + std::to_string(size));
}

}  // namespace

void CheckIndex(const SparseIndex& index, std::int64_t position, std::int64_t rows,
                std::int32_t query_heads) {
  if (index.position != position || index.rows != rows ||
      index.blocks != (rows + kBlockTokens - 1) / kBlockTokens) {
    Refuse("rows other than those of the last IndexRows");
  }
  const std::int64_t entries = query_heads * index.blocks;
  CheckOffsets(index.range_offsets, entries, index.ranges.size(), "range");
  CheckOffsets(index.column_offsets, entries, index.columns.size(), "column");
  for (std::int64_t entry = 0; entry < entries; ++entry) {
    const std::int64_t first = position + entry % index.blocks * kBlockTokens;
    const std::int64_t end = std::min(first + kBlockTokens, position + rows);
    for (std::int64_t i = index.range_offsets[entry]; i < index.range_offsets[entry + 1]; ++i) {
      const KeyRange& range = index.ranges[i];
      if (range.begin < range.end && range.end <= end) continue;
      Refuse("a range of entry " + std::to_string(entry) +
             " is empty or ends behind its query block");
    }
    for (std::int64_t i = index.column_offsets[entry]; i < index.column_offsets[entry + 1]; ++i) {
      if (index.columns[i] < first) continue;
      Refuse("a column of entry " + std::to_string(entry) + " is not before its query block");
    }
  }
}

}  // namespace longshadow

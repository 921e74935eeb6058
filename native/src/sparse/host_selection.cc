#include <utility>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {

HostSelection::HostSelection(KeySelection selection)
    : keys(std::move(selection)), attended_keys(keys.heads.size(), 0) {}

void HostSelection::CountAttended() {
  for (std::size_t head = 0; head < attended_keys.size(); ++head) {
    const auto first = static_cast<std::int64_t>(head) * index.blocks;
    const std::int64_t last = first + index.blocks;
    if (index.blocks == 0) return;
    std::int64_t& sum = attended_keys[head];
    sum += index.column_offsets[last] - index.column_offsets[first];
    for (std::int64_t i = index.range_offsets[first]; i < index.range_offsets[last]; ++i) {
      sum += index.ranges[i].end - index.ranges[i].begin;
    }
  }
}

HostSelection& HostSelection::Of(SparseSelection& selection) {
  auto* host = dynamic_cast<HostSelection*>(&selection);
  if (host == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "a selection of another backend");
  }
  return *host;
}

}  // namespace longshadow

#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow {

/// The key blocks of one kKeyBounds head of a chunk (see block_selection.h). Bounds and scores are
/// fp64, narrowed once. interrupt (or null) is polled for each block.
HeadSelection ReferenceSelectByBounds(const ConstMatrixView& q, const AttentionShape& shape,
                                      const KvGeometry& geometry, std::int32_t layer,
                                      const SequenceRows& chunk, std::int32_t head,
                                      const HeadBudget& budget, const CancellationFlag* interrupt);

}  // namespace longshadow

#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow {

/// The key blocks of one query head of a chunk (see block_selection.h): its pattern is kBlockSparse
/// or kFlex. Means and scores are fp64, narrowed once. interrupt (or null) is polled for
/// each block. Throws kInvalidArgument for what CheckFlexOptions refuses.
HeadSelection ReferenceSelectBlocks(const ConstMatrixView& q, const AttentionShape& shape,
                                    const KvGeometry& geometry, std::int32_t layer,
                                    const SequenceRows& chunk, std::int32_t head,
                                    const HeadBudget& budget, const FlexOptions& flex,
                                    const CancellationFlag* interrupt);

}  // namespace longshadow

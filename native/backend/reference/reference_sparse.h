#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "longshadow/backend.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {

/// Backend::EstimateLines: the score rows are stored, one at a time, and summed in fp64. interrupt
/// (or null) is polled for each row.
void ReferenceEstimateLines(const ConstMatrixView& q, const AttentionShape& shape,
                            const KvGeometry& geometry, std::int32_t layer,
                            const SequenceRows& rows, std::span<const std::int32_t> heads,
                            std::span<const LineScores> scores, const CancellationFlag* interrupt);

/// Backend::SelectKeys.
std::unique_ptr<HostSelection> ReferenceSelectKeys(
    const ConstMatrixView& q, const AttentionShape& shape, const KvGeometry& geometry,
    std::int32_t layer, const SequenceRows& chunk, std::span<const HeadBudget> budgets,
    const FlexOptions& flex, const CancellationFlag* interrupt);

/// Backend::SparseAttention: ReferenceAttention over the keys of the selection's index.
void ReferenceSparseAttention(const ConstMatrixView& q, const AttentionShape& shape,
                              const KvGeometry& geometry, std::int32_t layer,
                              const SequenceRows& rows, SparseSelection& selection,
                              const MatrixView& out);

}  // namespace longshadow

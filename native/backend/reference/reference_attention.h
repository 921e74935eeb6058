#pragma once

#include <cstdint>
#include <span>

#include "longshadow/backend.h"

namespace longshadow {

/// Backend::RopeAndStore. The angle is the fp32 product that the contract names; its cosine and
/// sine, and the rotation, are fp64.
void ReferenceRopeAndStore(const ConstMatrixView& qkv, const AttentionShape& shape,
                           const RopeTable& rope, const KvGeometry& geometry, std::int32_t layer,
                           std::span<const SequenceRows> sequences, const MatrixView& q);

/// Backend::Attention: softmax(scale q k^T) v over keys [0, p], row by row in fp64.
void ReferenceAttention(const ConstMatrixView& q, const AttentionShape& shape,
                        const KvGeometry& geometry, std::int32_t layer,
                        std::span<const SequenceRows> sequences, const MatrixView& out);

}  // namespace longshadow

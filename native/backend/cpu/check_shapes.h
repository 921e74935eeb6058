#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/backend.h"

namespace longshadow::cpu {

/// Throws kInvalidArgument, named after the operation, unless the rows are rows of q with pages for
/// K of all keys that the last one sees, the layer and heads are those of the geometry, and the
/// head dimension is one that kernels have.
void CheckShapes(const char* operation, const ConstMatrixView& q, const AttentionShape& shape,
                 const KvGeometry& geometry, std::int32_t layer, const SequenceRows& rows);

/// The kv heads of some query heads, ascending, each once.
std::vector<std::int32_t> KvHeadsOf(std::span<const std::int32_t> heads,
                                    const AttentionShape& shape);

}  // namespace longshadow::cpu

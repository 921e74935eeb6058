#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow {

/// A query head of a layer, and where its keys and values lie.
struct QueryHead {
  const AttentionShape& shape;  // of the layer
  const KvGeometry& geometry;   // of the session's pages
  std::int32_t layer = 0;
  std::int32_t head = 0;
};

/// Dense attention of one query head alone, as Backend::Attention gives it for all. q is [n, query
/// width of the layer], out [n, head_dim].
void AttendHead(Backend& backend, const MatrixView& q, const QueryHead& head,
                const SequenceRows& rows, const MatrixView& out);

}  // namespace longshadow

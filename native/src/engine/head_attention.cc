#include "engine/head_attention.h"

#include "engine/scratch_matrix.h"

namespace longshadow {

void AttendHead(Backend& backend, const MatrixView& q, const QueryHead& head,
                const SequenceRows& rows, const MatrixView& out) {
  const auto& [shape, geometry, layer, query_head] = head;
  const std::int32_t kv_head = query_head / (shape.query_heads / shape.kv_heads);
  // Planes lie in order of layer and KV head: the same pages are those of as many layers of one KV
  // head each.
  const KvGeometry planes{geometry.layers * geometry.kv_heads, 1, geometry.head_dim,
                          geometry.dtype};
  const AttentionShape one{1, 1, shape.head_dim, shape.scale};
  const std::int64_t column = std::int64_t{query_head} * shape.head_dim;
  backend.Attention(ColumnsOf(q, column, shape.head_dim), one, planes,
                    layer * geometry.kv_heads + kv_head, {&rows, 1}, out);
}

}  // namespace longshadow

#include "check_shapes.h"

#include <algorithm>
#include <string>

#include "longshadow/error.h"

namespace longshadow::cpu {

void CheckShapes(const char* operation, const ConstMatrixView& q, const AttentionShape& shape,
                 const KvGeometry& geometry, std::int32_t layer, const SequenceRows& rows) {
  const auto require = [operation](bool holds, const char* what) {
    if (holds) return;
    throw Error(ErrorCode::kInvalidArgument,
                std::string("cpu backend: ") + operation + ": " + what);
  };
  require(shape.head_dim >= 8 && shape.head_dim <= 256 && shape.head_dim % 8 == 0 &&
              shape.head_dim == geometry.head_dim,
          "head_dim must be a multiple of 8 from 8 to 256");
  require(shape.kv_heads > 0 && shape.query_heads > 0 && shape.query_heads % shape.kv_heads == 0 &&
              shape.kv_heads == geometry.kv_heads && layer >= 0 && layer < geometry.layers &&
              q.cols == static_cast<std::int64_t>(shape.query_heads) * shape.head_dim,
          "heads, layer or the shape of q");
  require(rows.rows > 0 && rows.position >= 0 && rows.row_begin >= 0 &&
              rows.row_begin + rows.rows <= q.rows,
          "a row is missing");
  const std::int64_t pages = (rows.position + rows.rows + kPageTokens - 1) / kPageTokens;
  require(pages <= static_cast<std::int64_t>(rows.pages.k.size()), "a page is missing");
}

std::vector<std::int32_t> KvHeadsOf(std::span<const std::int32_t> heads,
                                    const AttentionShape& shape) {
  std::vector<std::int32_t> kv_heads;
  for (const std::int32_t head : heads) {
    kv_heads.push_back(head / (shape.query_heads / shape.kv_heads));
  }
  std::ranges::sort(kv_heads);
  kv_heads.erase(std::unique(kv_heads.begin(), kv_heads.end()), kv_heads.end());
  return kv_heads;
}

}  // namespace longshadow::cpu

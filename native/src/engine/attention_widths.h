#pragma once

#include <cstdint>

#include "longshadow/backend.h"

namespace longshadow {

/// Elements of a row of queries, and of attention's output.
constexpr std::int64_t QueryWidth(const AttentionShape& shape) {
  return std::int64_t{shape.query_heads} * shape.head_dim;
}

/// Elements of a row of queries, keys and values together.
constexpr std::int64_t QkvWidth(const AttentionShape& shape) {
  return QueryWidth(shape) + 2 * std::int64_t{shape.kv_heads} * shape.head_dim;
}

}  // namespace longshadow

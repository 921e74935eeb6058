#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/backend.h"

/// Attention of one row of one query head in fp64, over any keys: what dense and sparse share.
namespace longshadow {

/// Keys and values of one kv head of a sequence.
struct HeadCache {
  const KvGeometry& geometry;
  const KvPages& pages;
  std::int32_t layer;
  std::int32_t kv_head;

  void LoadKey(std::int64_t position, std::span<double> values) const;
  void LoadValue(std::int64_t position, std::span<double> values) const;
};

/// q of one row and query head, widened: [head_dim].
std::vector<double> LoadQuery(const ConstMatrixView& q, std::int64_t row, std::int32_t head,
                              std::int32_t head_dim);

/// Softmax weights of one query [head_dim] over the keys at `positions`: [positions]. All are NaN
/// where the query or one of the keys is.
std::vector<double> AttentionWeights(std::span<const double> query, double scale,
                                     const HeadCache& cache,
                                     std::span<const std::int64_t> positions);

/// out[row, head] = attention of q[row, head] over the keys at `positions`.
void AttendRow(const ConstMatrixView& q, std::int64_t row, std::int32_t head,
               const AttentionShape& shape, const HeadCache& cache,
               std::span<const std::int64_t> positions, const MatrixView& out);

}  // namespace longshadow

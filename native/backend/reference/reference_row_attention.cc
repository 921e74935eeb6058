#include "reference_row_attention.h"

#include <algorithm>
#include <cmath>

#include "elements.h"

namespace longshadow {

void HeadCache::LoadKey(std::int64_t position, std::span<double> values) const {
  const PlaneRow row = FindRow(pages.k, geometry, layer, kv_head, position);
  LoadElements(row.plane, geometry.dtype, row.first, values);
}

void HeadCache::LoadValue(std::int64_t position, std::span<double> values) const {
  const PlaneRow row = FindRow(pages.v, geometry, layer, kv_head, position);
  LoadElements(row.plane, geometry.dtype, row.first, values);
}

std::vector<double> LoadQuery(const ConstMatrixView& q, std::int64_t row, std::int32_t head,
                              std::int32_t head_dim) {
  std::vector<double> query(static_cast<std::size_t>(head_dim));
  LoadElements(q.data, q.dtype, row * q.stride + std::int64_t{head} * head_dim, query);
  return query;
}

std::vector<double> AttentionWeights(std::span<const double> query, double scale,
                                     const HeadCache& cache,
                                     std::span<const std::int64_t> positions) {
  std::vector<double> weights(positions.size());
  std::vector<double> key(query.size());
  for (std::size_t k = 0; k < positions.size(); ++k) {
    cache.LoadKey(positions[k], key);
    double dot = 0;
    for (std::size_t i = 0; i < query.size(); ++i) dot += query[i] * key[i];
    weights[k] = dot * scale;
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= sum;
  return weights;
}

void AttendRow(const ConstMatrixView& q, std::int64_t row, std::int32_t head,
               const AttentionShape& shape, const HeadCache& cache,
               std::span<const std::int64_t> positions, const MatrixView& out) {
  const auto query = LoadQuery(q, row, head, shape.head_dim);
  const auto weights = AttentionWeights(query, static_cast<double>(shape.scale), cache, positions);
  std::vector<double> value(query.size());
  std::vector<double> sum(query.size());
  for (std::size_t k = 0; k < positions.size(); ++k) {
    cache.LoadValue(positions[k], value);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weights[k] * value[i];
  }
  const std::int64_t column = std::int64_t{head} * shape.head_dim;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    Put(out, row, column + static_cast<std::int64_t>(i), sum[i]);
  }
}

}  // namespace longshadow

#include "reference_attention.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "elements.h"
#include "reference_row_attention.h"

namespace longshadow {
namespace {

/// Rotates one head's vector [head_dim] of a qkv row to `position`.
std::vector<double> Rotate(const ConstMatrixView& qkv, std::int64_t row, std::int64_t col,
                           std::int32_t head_dim, const RopeTable& rope, std::int64_t position) {
  std::vector<double> vector(static_cast<std::size_t>(head_dim));
  for (std::int32_t i = 0; i < head_dim; ++i) {
    vector[static_cast<std::size_t>(i)] = static_cast<double>(At(qkv, row, col + i));
  }
  const std::size_t half = rope.inv_freq.size();
  for (std::size_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * rope.inv_freq[i];
    const double factor = static_cast<double>(rope.attention_factor);
    const double cosine = std::cos(static_cast<double>(angle)) * factor;
    const double sine = std::sin(static_cast<double>(angle)) * factor;
    const double first = vector[i];
    const double second = vector[i + half];
    vector[i] = first * cosine - second * sine;
    vector[i + half] = second * cosine + first * sine;
  }
  return vector;
}

void StoreRow(const PlaneRow& row, DType dtype, const std::vector<double>& vector) {
  for (std::size_t i = 0; i < vector.size(); ++i) {
    StoreElement(row.plane, dtype, row.first + static_cast<std::int64_t>(i), vector[i]);
  }
}

void RopeRow(const ConstMatrixView& qkv, std::int64_t row, const AttentionShape& shape,
             const RopeTable& rope, const KvGeometry& geometry, std::int32_t layer,
             const KvPages& pages, std::int64_t position, const MatrixView& q) {
  const std::int64_t head_dim = shape.head_dim;
  for (std::int32_t head = 0; head < shape.query_heads; ++head) {
    const auto rotated = Rotate(qkv, row, head * head_dim, shape.head_dim, rope, position);
    for (std::int64_t i = 0; i < head_dim; ++i) {
      Put(q, row, head * head_dim + i, rotated[static_cast<std::size_t>(i)]);
    }
  }
  const std::int64_t k_begin = shape.query_heads * head_dim;
  const std::int64_t v_begin = k_begin + shape.kv_heads * head_dim;
  for (std::int32_t head = 0; head < shape.kv_heads; ++head) {
    StoreRow(FindRow(pages.k, geometry, layer, head, position), geometry.dtype,
             Rotate(qkv, row, k_begin + head * head_dim, shape.head_dim, rope, position));
    std::vector<double> value;
    for (std::int64_t i = 0; i < head_dim; ++i) {
      value.push_back(static_cast<double>(At(qkv, row, v_begin + head * head_dim + i)));
    }
    StoreRow(FindRow(pages.v, geometry, layer, head, position), geometry.dtype, value);
  }
}

}  // namespace

void ReferenceRopeAndStore(const ConstMatrixView& qkv, const AttentionShape& shape,
                           const RopeTable& rope, const KvGeometry& geometry, std::int32_t layer,
                           std::span<const SequenceRows> sequences, const MatrixView& q) {
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t i = 0; i < sequence.rows; ++i) {
      RopeRow(qkv, sequence.row_begin + i, shape, rope, geometry, layer, sequence.pages,
              sequence.position + i, q);
    }
  }
}

void ReferenceAttention(const ConstMatrixView& q, const AttentionShape& shape,
                        const KvGeometry& geometry, std::int32_t layer,
                        std::span<const SequenceRows> sequences, const MatrixView& out) {
  for (const SequenceRows& sequence : sequences) {
    std::vector<std::int64_t> keys(static_cast<std::size_t>(sequence.position + sequence.rows));
    std::iota(keys.begin(), keys.end(), 0);
    for (std::int64_t i = 0; i < sequence.rows; ++i) {
      const auto visible =
          std::span(keys).first(static_cast<std::size_t>(sequence.position + i + 1));
      for (std::int32_t head = 0; head < shape.query_heads; ++head) {
        const std::int32_t kv_head = head / (shape.query_heads / shape.kv_heads);
        AttendRow(q, sequence.row_begin + i, head, shape,
                  {geometry, sequence.pages, layer, kv_head}, visible, out);
      }
    }
  }
}

}  // namespace longshadow

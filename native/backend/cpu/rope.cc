#include "rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace longshadow::cpu {

void RopeRunner::ListRows(std::span<const SequenceRows> sequences) {
  rows_.clear();
  for (const SequenceRows& s : sequences) {
    const std::int64_t last_page = (s.position + s.rows - 1) / kPageTokens;
    Require(s.position >= 0 &&
                (s.rows == 0 || (last_page < static_cast<std::int64_t>(s.pages.k.size()) &&
                                 last_page < static_cast<std::int64_t>(s.pages.v.size()))),
            "RopeAndStore: a row's page is missing");
    for (std::int64_t i = 0; i < s.rows; ++i) {
      rows_.push_back({s.row_begin + i, s.position + i, &s.pages});
    }
  }
}

void RopeRunner::UpdateAngles(const RopeTable& rope) {
  const auto same = [](const Row& row, std::int64_t position) { return row.position == position; };
  if (attention_factor_ == rope.attention_factor &&
      std::equal(rows_.begin(), rows_.end(), positions_.begin(), positions_.end(), same) &&
      std::equal(inv_freq_.begin(), inv_freq_.end(), rope.inv_freq.begin(), rope.inv_freq.end())) {
    return;
  }
  attention_factor_ = rope.attention_factor;
  inv_freq_.assign(rope.inv_freq.begin(), rope.inv_freq.end());
  positions_.clear();
  for (const Row& row : rows_) positions_.push_back(row.position);
  const std::size_t half = inv_freq_.size();
  cos_.resize(rows_.size() * half);
  sin_.resize(rows_.size() * half);
  context_.pool.Run(static_cast<std::int64_t>(rows_.size()), [&](std::int64_t i, std::int32_t) {
    const std::size_t at = static_cast<std::size_t>(i) * half;
    const auto position = static_cast<float>(positions_[static_cast<std::size_t>(i)]);
    for (std::size_t f = 0; f < half; ++f) {
      // libm reduces the fp32 angle exactly, however large it is.
      const float angle = position * inv_freq_[f];
      cos_[at + f] = std::cos(angle) * attention_factor_;
      sin_[at + f] = std::sin(angle) * attention_factor_;
    }
  });
}

void RopeRunner::StoreRow(const float* values, std::int32_t head_dim, DType dtype,
                          std::byte* to) const {
  if (dtype == DType::kBF16) {
    context_.kernels.f32_to_bf16(values, reinterpret_cast<std::uint16_t*>(to), head_dim);
  } else {
    std::memcpy(to, values, static_cast<std::size_t>(head_dim) * 4);
  }
}

void RopeRunner::Run(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
                     const KvGeometry& geometry, std::int32_t layer,
                     std::span<const SequenceRows> sequences, MatrixView q) {
  const std::int32_t dim = shape.head_dim;
  const auto half = static_cast<std::int32_t>(rope.inv_freq.size());
  Require(2 * half <= dim && dim == geometry.head_dim && shape.kv_heads == geometry.kv_heads &&
              layer >= 0 && layer < geometry.layers,
          "RopeAndStore: head_dim, rotary dim or layer");
  Require(qkv.dtype == DType::kF32 &&
              qkv.cols == static_cast<std::int64_t>(shape.query_heads + 2 * shape.kv_heads) * dim &&
              q.cols == static_cast<std::int64_t>(shape.query_heads) * dim,
          "RopeAndStore: shapes or dtype");
  ListRows(sequences);
  UpdateAngles(rope);
  const auto element = static_cast<std::int64_t>(DTypeBytes(geometry.dtype));
  const auto q_element = static_cast<std::int64_t>(DTypeBytes(q.dtype));
  constexpr std::int64_t kRowsPerTask = 8;
  const auto rows = static_cast<std::int64_t>(rows_.size());
  const auto one_row = [&](std::int64_t index) {
    const Row& row = rows_[static_cast<std::size_t>(index)];
    const RopeRowArgs args{cos_.data() + index * half, sin_.data() + index * half, half, dim};
    const float* in = static_cast<const float*>(qkv.data) + row.row * qkv.stride;
    alignas(64) float rotated[256];
    for (std::int64_t h = 0; h < shape.query_heads; ++h) {
      context_.kernels.rope(in + h * dim, args, rotated);
      StoreRow(rotated, dim, q.dtype,
               static_cast<std::byte*>(q.data) + (row.row * q.stride + h * dim) * q_element);
    }
    const auto page = static_cast<std::size_t>(row.position / kPageTokens);
    const float* k = in + static_cast<std::int64_t>(shape.query_heads) * dim;
    const float* v = k + static_cast<std::int64_t>(shape.kv_heads) * dim;
    for (std::int32_t h = 0; h < shape.kv_heads; ++h) {
      const std::int64_t at =
          geometry.PlaneOffset(layer, h) + row.position % kPageTokens * dim * element;
      context_.kernels.rope(k + static_cast<std::int64_t>(h) * dim, args, rotated);
      StoreRow(rotated, dim, geometry.dtype, row.pages->k[page] + at);
      StoreRow(v + static_cast<std::int64_t>(h) * dim, dim, geometry.dtype,
               row.pages->v[page] + at);
    }
  };
  context_.pool.Run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task, std::int32_t) {
    const std::int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (std::int64_t i = task * kRowsPerTask; i < end; ++i) one_row(i);
  });
}

}  // namespace longshadow::cpu

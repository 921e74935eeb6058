#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

/// RopeAndStore of one backend. The cosines and sines of a call are kept: the layers of a model
/// ask for the same positions one after the other.
class RopeRunner {
 public:
  explicit RopeRunner(CpuContext& context) : context_(context) {}

  void Run(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
           const KvGeometry& geometry, std::int32_t layer, std::span<const SequenceRows> sequences,
           MatrixView q);

 private:
  struct Row {
    std::int64_t row = 0;  // of the activations
    std::int64_t position = 0;
    const KvPages* pages = nullptr;
  };
  void ListRows(std::span<const SequenceRows> sequences);
  void UpdateAngles(const RopeTable& rope);
  void StoreRow(const float* values, std::int32_t head_dim, DType dtype, std::byte* to) const;

  CpuContext& context_;
  std::vector<Row> rows_;
  std::vector<std::int64_t> positions_;  // what cos_ and sin_ hold, with the next two
  std::vector<float> inv_freq_;
  float attention_factor_ = 0;
  std::vector<float> cos_;  // [rows][rotary_dim / 2]
  std::vector<float> sin_;
};

}  // namespace longshadow::cpu

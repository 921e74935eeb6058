#pragma once

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

/// A weight matrix [out, in] in panels of 64 output features, zero-padded to whole panels.
class PackedWeight : public PackedMatrix {
 public:
  enum class Layout {
    kBf16Pairs,  // [out / 64][in / 32][16][64][2] bf16: what bf16 dot products (and oneDNN) read
    kBf16,       // [out / 64][in][64] bf16
    kF32,        // [out / 64][in][64] f32
  };

  PackedWeight(ConstMatrixView weight, DType compute, Layout layout, ThreadPool& pool);

  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  std::int64_t bytes() const override { return buffer_.bytes(); }

  DType compute() const { return compute_; }
  Layout layout() const { return layout_; }
  std::int64_t panels() const { return (out_ + kPanel - 1) / kPanel; }
  /// Input features with the padding of the layout.
  std::int64_t padded_in() const {
    return layout_ == Layout::kBf16Pairs ? (in_ + 31) / 32 * 32 : in_;
  }
  std::int64_t panel_bytes() const {
    return padded_in() * kPanel * (layout_ == Layout::kF32 ? 4 : 2);
  }
  const std::byte* panel(std::int64_t index) const {
    return buffer_.data() + index * panel_bytes();
  }

 private:
  void PackPanel(ConstMatrixView weight, std::int64_t index, std::byte* to) const;

  std::int64_t out_;
  std::int64_t in_;
  DType compute_;
  Layout layout_;
  AlignedBuffer buffer_;
};

}  // namespace longshadow::cpu

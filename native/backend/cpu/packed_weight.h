#pragma once

#include <algorithm>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

/// Input features that are added up in registers before they meet y: all products cut `in` here.
inline constexpr std::int64_t kFeatureBlock = 512;

/// A weight matrix [out, in] in blocks of kFeatureBlock inputs, each in panels of
/// 64 output features, zero-padded to whole panels.
class PackedWeight : public PackedMatrix {
 public:
  enum class Layout {
    kBf16Pairs,  // panel: [block / 32][16][64][2] bf16, what bf16 dot products and oneDNN read
    kBf16,       // panel: [block][64] bf16
    kF32,        // panel: [block][64] f32
  };

  PackedWeight(ConstMatrixView weight, DType compute, Layout layout, ThreadPool& pool);

  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  std::int64_t bytes() const override { return buffer_.bytes(); }

  DType compute() const { return compute_; }
  Layout layout() const { return layout_; }
  std::int64_t panels() const { return (out_ + kPanel - 1) / kPanel; }
  /// Bytes of one panel over a block that begins at input `begin`.
  std::int64_t panel_bytes(std::int64_t begin) const {
    const std::int64_t block = std::min(kFeatureBlock, in_ - begin);
    return Padded(block) * kPanel * ElementBytes();
  }
  /// The panel of outputs [64 index, 64 index + 64) over the block that begins at `begin`, a
  /// multiple of kFeatureBlock. Panels of one block are adjacent.
  const std::byte* panel(std::int64_t begin, std::int64_t index) const {
    return buffer_.data() + begin * panels() * kPanel * ElementBytes() + index * panel_bytes(begin);
  }

 private:
  std::int64_t ElementBytes() const { return layout_ == Layout::kF32 ? 4 : 2; }
  std::int64_t Padded(std::int64_t inputs) const {
    return layout_ == Layout::kBf16Pairs ? (inputs + 31) / 32 * 32 : inputs;
  }
  void PackPanel(ConstMatrixView weight, std::int64_t begin, std::int64_t index,
                 std::byte* to) const;

  std::int64_t out_;
  std::int64_t in_;
  DType compute_;
  Layout layout_;
  AlignedBuffer buffer_;
};

}  // namespace longshadow::cpu

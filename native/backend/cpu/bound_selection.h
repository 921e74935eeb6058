#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"
#include "longshadow/block_selection.h"

namespace longshadow::cpu {

/// Chooses key blocks by bounds of their keys: the pattern kKeyBounds. See bound_selection.cc.
class BoundSelector {
 public:
  explicit BoundSelector(CpuContext& context) : context_(context) {}

  /// Selections of `heads`, in their order, on all threads. budgets: [query heads]. interrupt (or
  /// null) is polled for every query block: kCancelled.
  std::vector<HeadSelection> Select(ConstMatrixView q, const AttentionShape& shape,
                                    const KvGeometry& geometry, std::int32_t layer,
                                    const SequenceRows& chunk, std::span<const std::int32_t> heads,
                                    std::span<const HeadBudget> budgets,
                                    const CancellationFlag* interrupt);

 private:
  /// A run of query blocks of one head, on one thread.
  class Batch;

  /// Bounds of a whole block: middle and reach; of a group also whether it has keys.
  std::int64_t BlockFeatures() const { return 2 * shape_.head_dim; }
  std::int64_t GroupFeatures() const { return 2 * shape_.head_dim + 1; }
  std::int64_t Panels() const { return (chunk_.Keys() + kPanel - 1) / kPanel; }
  float* BlockPanel(std::int32_t kv_head, std::int64_t panel) const;
  float* Groups(std::int32_t kv_head) const;

  /// Bounds of a panel of 64 key blocks.
  void BoundKeys(const KvGeometry& geometry, std::int32_t layer, const SequenceRows& chunk,
                 std::int32_t kv_head, std::int64_t panel, std::int32_t thread);

  CpuContext& context_;
  AttentionShape shape_;
  ChunkBlocks chunk_;
  const CancellationFlag* interrupt_ = nullptr;
  AlignedBuffer blocks_;  // [kv head][Panels()][BlockFeatures()][64 blocks]
  AlignedBuffer groups_;  // [kv head][64 Panels()][GroupFeatures()][4 groups]
};

}  // namespace longshadow::cpu

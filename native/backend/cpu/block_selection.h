#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"
#include "longshadow/block_selection.h"

namespace longshadow::cpu {

/// Chooses key blocks by pooled queries and keys: the patterns kBlockSparse and kFlex. First Pool,
/// on all threads; then heads, each on one thread. See block_selection.cc.
class BlockSelector {
 public:
  explicit BlockSelector(CpuContext& context) : context_(context) {}

  /// Averages the chunk's queries of `heads`, and the keys of their kv heads over all keys so far,
  /// in blocks. What was pooled before is dropped. interrupt (or null) is polled here and by what
  /// chooses from these averages, for every few query blocks: kCancelled.
  void Pool(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
            std::int32_t layer, const SequenceRows& chunk, std::span<const std::int32_t> heads,
            const CancellationFlag* interrupt);

  /// The head's selection as kBlockSparse. head: one of Pool's.
  HeadSelection BlockSparse(std::int32_t head, const HeadBudget& budget, std::int32_t thread) const;

  /// The head's selection as kFlex. lines: EstimateLines of the chunk's last min(kEstimateRows,
  /// rows) rows.
  HeadSelection Flex(std::int32_t head, const LineScores& lines, const HeadBudget& budget,
                     const FlexOptions& flex, std::int32_t thread) const;

 private:
  void PoolKeys(const KvGeometry& geometry, std::int32_t layer, const SequenceRows& chunk,
                std::int32_t kv_head, std::int64_t panel, std::int32_t thread);
  void PoolQueries(ConstMatrixView q, const SequenceRows& chunk, std::int32_t head);

  std::int64_t Panels() const { return (chunk_.Keys() + kPanel - 1) / kPanel; }
  float* KeyPanel(std::int32_t kv_head, std::int64_t panel) const;
  float* Queries(std::int32_t head) const;
  /// scores[rows][padded blocks]: products of pooled queries with the pooled keys of the panels
  /// that hold the first `visible` blocks.
  void Score(std::int32_t head, const float* queries, std::int64_t rows, std::int64_t visible,
             float* scores) const;
  BlockRows Rows(std::int32_t head, bool softmax, std::int32_t thread) const;

  CpuContext& context_;
  AttentionShape shape_;
  ChunkBlocks chunk_;
  const CancellationFlag* interrupt_ = nullptr;
  /// Pooled keys of kv heads, as panels of gemm_f32: [kv head][Panels()][head_dim][64 blocks].
  AlignedBuffer keys_;
  /// Pooled queries times the scale: [query head][Queries() + 1][head_dim]; the last row of a head
  /// is that of the estimate's queries.
  AlignedBuffer queries_;
};

}  // namespace longshadow::cpu

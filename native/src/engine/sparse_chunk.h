#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/scratch_matrix.h"
#include "engine/sparse_guard.h"
#include "engine/stack_sequence.h"
#include "longshadow/backend.h"
#include "longshadow/sparse_prefill.h"

namespace longshadow {

/// A chunk's policy, and where its sparse rows end (SparseRowsEnd).
struct SparseRows {
  const SparsePolicy& policy;
  std::int64_t end = 0;  // a position
};

/// Attention of one sequence's chunk to chosen keys, layer by layer. Its scratch is as long as the
/// chunk, since a layer's keys are chosen by the chunk's last queries before its first row attends:
/// it lives as long as the chunk runs.
class SparseChunk {
 public:
  /// All arguments outlive it. dtype: of queries and of attention's output.
  SparseChunk(Backend& backend, const AttentionShape& shape, const KvGeometry& geometry,
              DType dtype, const SparseRows& sparse, StackSequence& sequence);

  StackSequence& sequence() { return sequence_; }
  std::int64_t position() const { return sequence_.rows.position; }
  std::int64_t rows() const { return sequence_.rows.rows; }
  std::span<const HeadBudget> Budgets(std::int32_t layer) const;
  /// Where a block's queries go: [block.rows, query width].
  MatrixView Queries(const RowBlock& block) const;
  /// How many of a block's first rows attend to chosen keys.
  std::int64_t SparseRowsOf(const RowBlock& block) const;

  /// Chooses the layer's keys. All queries of the chunk are in place, and its K is stored.
  void Select(std::int32_t layer);
  /// Attention of the block's first SparseRowsOf rows into out [block.rows, query width], polled
  /// about every tenth of a second. Blocks come in order.
  void Attend(const RowBlock& block, const MatrixView& out);
  /// Every block of the layer has attended: its keys are counted.
  void FinishLayer();
  /// A layer of which no head chooses keys has run: its keys are counted.
  void CountDenseLayer(std::int32_t layer);

  const SparseStats& stats() const { return stats_; }

 private:
  /// Rows of one attention call from a row of the chunk on, of `rows` that are left.
  std::int64_t SliceRows(std::int64_t row, std::int64_t rows) const;
  void Guard(const RowBlock& block, const MatrixView& out);

  Backend& backend_;
  const AttentionShape& shape_;
  const KvGeometry& geometry_;
  const SparseRows sparse_;
  StackSequence& sequence_;
  ScratchMatrix queries_;  // [rows of the chunk, query width]
  ScratchMatrix guarded_;  // [kBlockTokens, head_dim]: what dense attention gives

  std::int32_t layer_ = 0;
  std::unique_ptr<SparseSelection> selection_;
  std::vector<std::int64_t> block_keys_;  // [query blocks]: keys that its heads see, about
  std::optional<GuardSample> sample_;
  SparseStats stats_;
};

}  // namespace longshadow

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/row_blocks.h"
#include "engine/scratch_matrix.h"
#include "longshadow/backend.h"
#include "longshadow/cancellation.h"
#include "longshadow/engine.h"
#include "longshadow/error.h"
#include "model/llama_weights.h"

namespace longshadow {

/// One sequence's rows on their way through the layers.
struct StackSequence {
  StackedRows rows;
  KvPages pages;  // over [0, rows.position + rows.rows)
  CancellationFlag* cancellation = nullptr;
  /// Called before a layer reads the sequence's keys; throws kDataLoss.
  std::function<void(std::int32_t)> verify_layer;
  /// Set when the sequence alone failed; its rows are skipped from there on.
  std::optional<Error> error;
};

/// The decoder layers of a model on a backend. Nothing it holds grows with the rows of a run.
class LayerStack {
 public:
  /// All arguments outlive it.
  LayerStack(Backend& backend, const ModelConfig& config, const LlamaWeights& weights,
             const KvGeometry& geometry, DType compute);

  /// Runs residual [rows, hidden] f32 through every layer in place, storing K and V of the rows.
  /// Layers run once for all sequences. A sequence that is cancelled or fails to verify gets its
  /// error and the others go on; only what is no sequence's own fault is thrown.
  /// progress: may be empty; gets the share of the run's arithmetic after each row block.
  /// Returns the microseconds spent in attention.
  std::int64_t Run(const MatrixView& residual, std::span<StackSequence> sequences,
                   const ProgressCallback& progress);

 private:
  /// Polls between the products; stops early once no sequence of the block is left.
  void RunBlock(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                std::span<StackSequence> sequences);
  void AttentionInputs(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                       std::span<StackSequence> sequences);
  void Attend(std::int32_t layer, const RowBlock& block, std::span<StackSequence> sequences);
  void AttendInSlices(std::int32_t layer, const RowBlock& block, const RowPiece& piece,
                      std::int64_t slice_rows, StackSequence& sequence);
  void GateUp(const LayerWeights& weights, const MatrixView& residual);
  double BlockFlops(const RowBlock& block) const;

  Backend& backend_;
  const ModelConfig& config_;
  const LlamaWeights& weights_;
  const KvGeometry& geometry_;
  AttentionShape shape_;
  std::vector<float> inv_freq_;
  float eps_;
  std::int64_t block_rows_;
  ScratchMatrix normed_;     // [block_rows_, hidden], compute dtype
  ScratchMatrix qkv_;        // [block_rows_, (query_heads + 2 kv_heads) * head_dim], f32
  ScratchMatrix query_;      // [block_rows_, query_heads * head_dim], compute dtype
  ScratchMatrix attended_;   // as query_
  ScratchMatrix gate_up_;    // [block_rows_, 2 * ffn], f32
  ScratchMatrix activated_;  // [block_rows_, ffn], compute dtype
  std::int64_t attention_micros_ = 0;
};

}  // namespace longshadow

#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/progress_meter.h"
#include "engine/row_blocks.h"
#include "engine/scratch_matrix.h"
#include "engine/sparse_chunk.h"
#include "engine/stack_sequence.h"
#include "longshadow/backend.h"
#include "longshadow/engine.h"
#include "model/llama_weights.h"

namespace longshadow {

/// Patterns to try on a chunk's rows before `end`, a multiple of kBlockTokens or the chunk's end.
struct TrialRows {
  const PatternTrialRequest& trial;
  std::int64_t end = 0;
};

/// The decoder layers of a model on a backend. Nothing it keeps grows with the rows of a run.
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
  /// As Run, for one sequence whose rows before sparse.end attend to keys that the policy chooses.
  /// Layers of which all heads are dense run as in Run. stats: set to what the chunk did.
  std::int64_t RunSparse(const MatrixView& residual, StackSequence& sequence,
                         const SparseRows& sparse, const ProgressCallback& progress,
                         SparseStats& stats);
  /// As Run, for one sequence: dense, with the candidates tried on its rows before rows.end.
  void RunTrial(const MatrixView& residual, StackSequence& sequence, const TrialRows& rows,
                const ProgressCallback& progress, PatternTrialResult& result);

 private:
  /// False once no sequence is left.
  bool RunLayer(std::int32_t layer, std::span<const RowBlock> blocks, const MatrixView& residual,
                std::span<StackSequence> sequences, ProgressMeter& meter);
  /// Two sweeps: the queries, K and V of all blocks first, since the keys are chosen by the last
  /// queries over all K.
  void RunSparseLayer(std::int32_t layer, std::span<const RowBlock> blocks,
                      const MatrixView& residual, SparseChunk& chunk, ProgressMeter& meter);
  /// Polls between the products; stops early once no sequence of the block is left.
  void RunBlock(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                std::span<StackSequence> sequences);
  /// queries: where the block's go, [block.rows, query width].
  void AttentionInputs(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                       std::span<StackSequence> sequences, const MatrixView& queries);
  void Attend(std::int32_t layer, const RowBlock& block, std::span<StackSequence> sequences);
  void AttendSparse(std::int32_t layer, const RowBlock& block, SparseChunk& chunk);
  void AttendInSlices(std::int32_t layer, const RowBlock& block, const RowPiece& piece,
                      std::int64_t slice_rows, StackSequence& sequence, const MatrixView& queries);
  /// The output product and the MLP, after attention; polls as RunBlock.
  void FinishBlock(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                   std::span<StackSequence> sequences);
  void GateUp(const LayerWeights& weights, const MatrixView& residual);
  /// Waits for what is queued and polls; true once no sequence of the block is left.
  bool Stopped(const RowBlock& block, std::span<StackSequence> sequences);
  double InputFlops(const RowBlock& block) const;   // of AttentionInputs
  double FinishFlops(const RowBlock& block) const;  // of FinishBlock
  double BlockFlops(const RowBlock& block) const;   // of RunBlock
  /// Of choosing a layer's keys.
  double ChoiceFlops(std::int32_t layer, const SparseChunk& chunk) const;
  /// Of a block of a sparse layer but for its inputs, as far as budgets tell.
  double SparseBlockFlops(std::int32_t layer, const RowBlock& block,
                          const SparseChunk& chunk) const;

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

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/scratch_matrix.h"
#include "engine/stack_sequence.h"
#include "longshadow/backend.h"
#include "longshadow/engine.h"

namespace longshadow {

/// Compares what candidate patterns would give a chunk's rows with what dense attention gives them,
/// layer by layer; every candidate is tried for every query head.
class PatternTrial {
 public:
  /// All arguments outlive it. dtype: of queries and of attention's output.
  PatternTrial(Backend& backend, const AttentionShape& shape, const KvGeometry& geometry,
               DType dtype, std::span<const HeadBudget> candidates, const FlexOptions& flex,
               StackSequence& sequence, PatternTrialResult& result);

  /// Where a block's queries go: [block.rows, query width].
  MatrixView Queries(const RowBlock& block) const;
  /// Chooses the layer's keys for every candidate. All queries are in place, and K is stored.
  void Select(std::int32_t layer);
  /// Tries the candidates on a block's rows. dense: [block.rows, query width].
  void Compare(const RowBlock& block, const MatrixView& dense);
  /// Every block of the layer was compared: its keys are counted.
  void FinishLayer();

 private:
  /// Of the layer's, a head's and a candidate's element in the result's lists.
  std::size_t Place(std::size_t head, std::size_t candidate) const;
  void AddErrors(std::size_t candidate, const MatrixView& dense);

  Backend& backend_;
  const AttentionShape& shape_;
  const KvGeometry& geometry_;
  std::span<const HeadBudget> candidates_;
  const FlexOptions& flex_;
  StackSequence& sequence_;
  PatternTrialResult& result_;
  ScratchMatrix queries_;  // [rows of the chunk, query width]
  ScratchMatrix tried_;    // [rows of a block, query width]
  std::int32_t layer_ = 0;
  std::vector<std::unique_ptr<SparseSelection>> selections_;  // [candidates]
};

}  // namespace longshadow

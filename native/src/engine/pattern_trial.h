#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/layer_stack.h"
#include "engine/scratch_matrix.h"
#include "engine/stack_sequence.h"
#include "longshadow/backend.h"
#include "longshadow/engine.h"

namespace longshadow {

/// Refuses candidates that no head may be asked for, and a shown head that is not there. Throws
/// kInvalidArgument.
void CheckTrial(const PatternTrialRequest& trial, const EngineInfo& info);

/// Compares what candidate patterns would give a chunk's rows with what dense attention gives them,
/// layer by layer; every candidate is tried for every query head.
class PatternTrial {
 public:
  /// All arguments outlive it. dtype: of queries and of attention's output.
  PatternTrial(Backend& backend, const AttentionShape& shape, const KvGeometry& geometry,
               DType dtype, const TrialRows& rows, StackSequence& sequence,
               PatternTrialResult& result);

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
  /// dense: of the rows that were tried.
  void AddErrors(std::size_t candidate, const MatrixView& dense);
  /// Adds the rows of the last IndexRows to what is shown, if this is the shown head's.
  void Show(std::size_t candidate);

  Backend& backend_;
  const AttentionShape& shape_;
  const KvGeometry& geometry_;
  const PatternTrialRequest& trial_;
  std::int64_t end_;  // position at which the compared rows end
  StackSequence& sequence_;
  PatternTrialResult& result_;
  ScratchMatrix queries_;  // [rows of the chunk, query width]
  ScratchMatrix tried_;    // [rows of a block, query width]
  std::int32_t layer_ = 0;
  std::vector<std::unique_ptr<SparseSelection>> selections_;  // [candidates]
};

}  // namespace longshadow

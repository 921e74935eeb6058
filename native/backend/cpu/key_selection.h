#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "block_selection.h"
#include "bound_selection.h"
#include "cpu_context.h"
#include "line_estimate.h"
#include "longshadow/backend.h"
#include "longshadow/sparse_selection.h"

namespace longshadow::cpu {

/// Chooses the keys of a chunk's query heads. See key_selection.cc.
class KeySelector {
 public:
  KeySelector(CpuContext& context, LineEstimator& estimator)
      : context_(context), estimator_(estimator), blocks_(context), bounds_(context) {}

  /// Backend::SelectKeys.
  std::unique_ptr<SparseSelection> Select(ConstMatrixView q, const AttentionShape& shape,
                                          const KvGeometry& geometry, std::int32_t layer,
                                          const SequenceRows& chunk,
                                          std::span<const HeadBudget> budgets,
                                          const FlexOptions& flex,
                                          const CancellationFlag* interrupt);

 private:
  /// What Select was given.
  struct Call;

  /// Chooses the lines, or by them the blocks, of the query heads `estimated`.
  void ChooseByEstimate(const Call& call, std::span<const std::int32_t> estimated,
                        KeySelection& selection);

  CpuContext& context_;
  LineEstimator& estimator_;
  BlockSelector blocks_;
  BoundSelector bounds_;
  AlignedBuffer scores_;  // [heads estimated together][vertical, slash][keys]
};

/// Backend::UploadSelection.
std::unique_ptr<SparseSelection> UploadSelection(const KeySelection& selection,
                                                 std::int32_t query_heads);

/// Backend::IndexRows. Throws kInvalidArgument for another backend's selection.
void IndexRows(SparseSelection& selection, std::int64_t position, std::int64_t rows);

}  // namespace longshadow::cpu

#pragma once

#include <cstdint>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"
#include "longshadow/sparse_selection.h"

namespace longshadow::cpu {

/// Attention of query blocks, each query head over the keys that a selection's index names.
/// See sparse_tiles.h for how keys become tiles, sparse_attention.cc for how work is shared out.
class SparseAttentionRunner {
 public:
  explicit SparseAttentionRunner(CpuContext& context) : context_(context) {}

  /// As Backend::SparseAttention. Throws kInvalidArgument where the selection is not of this
  /// backend or has not these rows, or a page or a row is missing.
  void Run(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
           std::int32_t layer, const SequenceRows& rows, SparseSelection& selection,
           MatrixView out);

 private:
  /// What a thread claims: one query head's block of rows.
  struct Task {
    std::int32_t head = 0;
    std::int64_t block = 0;
    std::int64_t keys = 0;
  };
  struct Call {
    ConstMatrixView q;
    AttentionShape shape;
    KvGeometry geometry;
    std::int32_t layer = 0;
    const SequenceRows& rows;
    const SparseIndex& index;
    MatrixView out;
  };

  void Plan(const SparseIndex& index, std::int32_t heads);
  void RunTask(const Call& call, const Task& task, std::int32_t thread);

  CpuContext& context_;
  std::vector<Task> tasks_;
};

}  // namespace longshadow::cpu

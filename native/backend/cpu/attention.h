#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_context.h"
#include "longshadow/backend.h"

namespace longshadow::cpu {

/// Exact causal attention of one backend. See attention.cc for the two kernels.
class AttentionRunner {
 public:
  explicit AttentionRunner(CpuContext& context) : context_(context) {}

  void Run(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
           std::int32_t layer, std::span<const SequenceRows> sequences, MatrixView out);

 private:
  /// One unit that a thread claims: a block of rows (prefill) or a piece of keys (decode).
  struct Task {
    const SequenceRows* sequence = nullptr;
    std::int32_t kv_head = 0;
    bool decode = false;
    std::int64_t begin = 0;    // first row of the block, or first key of the piece
    std::int64_t partial = 0;  // decode: floats before this piece's result
    std::int64_t cost = 0;     // query-key pairs
  };
  struct Call {
    ConstMatrixView q;
    AttentionShape shape;
    KvGeometry geometry;
    std::int32_t layer = 0;
    MatrixView out;
  };

  void PlanPrefill(const SequenceRows& sequence, const AttentionShape& shape);
  void PlanDecode(const SequenceRows& sequence, const AttentionShape& shape);
  void RunPrefill(const Call& call, const Task& task, std::int32_t thread);
  void RunDecode(const Call& call, const Task& task, std::int32_t thread);
  void Merge(const Call& call, const Task& first, std::int32_t thread);

  CpuContext& context_;
  std::vector<Task> tasks_;
  std::vector<Task> merges_;  // the first piece of each (sequence, kv head) that decodes
  std::int64_t partial_floats_ = 0;
  AlignedBuffer partials_;
};

}  // namespace longshadow::cpu

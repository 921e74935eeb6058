// One task is one query head's block of 64 rows: heads that share keys and values choose different
// ones. Threads claim tasks with the most keys first; among equals a head's blocks stay together,
// since they mostly see the same columns.
#include "sparse_attention.h"

#include <algorithm>

#include "check_shapes.h"

namespace longshadow::cpu {
namespace {

static_assert(kBlockRows == kBlockTokens, "a task is a query block");
static_assert(sizeof(KeyRange) == 2 * sizeof(std::uint32_t), "kernels read ranges as numbers");

void CheckOutput(const ConstMatrixView& q, const SequenceRows& rows, const MatrixView& out) {
  Require(q.cols == out.cols && q.rows == out.rows, "SparseAttention: shapes of q and out");
  const std::int64_t pages = (rows.position + rows.rows + kPageTokens - 1) / kPageTokens;
  Require(pages <= static_cast<std::int64_t>(rows.pages.v.size()),
          "SparseAttention: a page is missing");
}

}  // namespace

void SparseAttentionRunner::Plan(const SparseIndex& index, std::int32_t heads) {
  tasks_.clear();
  for (std::int32_t head = 0; head < heads; ++head) {
    for (std::int64_t block = 0; block < index.blocks; ++block) {
      const auto entry = static_cast<std::size_t>(head * index.blocks + block);
      Task task{head, block, index.column_offsets[entry + 1] - index.column_offsets[entry]};
      for (std::int64_t r = index.range_offsets[entry]; r < index.range_offsets[entry + 1]; ++r) {
        const KeyRange& range = index.ranges[static_cast<std::size_t>(r)];
        task.keys += range.end - range.begin;
      }
      tasks_.push_back(task);
    }
  }
  std::stable_sort(tasks_.begin(), tasks_.end(),
                   [](const Task& a, const Task& b) { return a.keys > b.keys; });
}

void SparseAttentionRunner::RunTask(const Call& call, const Task& task, std::int32_t thread) {
  const auto element = static_cast<std::int64_t>(DTypeBytes(call.q.dtype));
  const auto out_element = static_cast<std::int64_t>(DTypeBytes(call.out.dtype));
  const std::int64_t first = task.block * kBlockRows;
  const std::int64_t row = call.rows.row_begin + first;
  const std::int64_t column = static_cast<std::int64_t>(task.head) * call.shape.head_dim;
  const std::int32_t kv_head = task.head / (call.shape.query_heads / call.shape.kv_heads);
  SparseArgs args;
  PrefillArgs& block = args.block;
  block.q = static_cast<const std::byte*>(call.q.data) + (row * call.q.stride + column) * element;
  block.out =
      static_cast<std::byte*>(call.out.data) + (row * call.out.stride + column) * out_element;
  block.q_stride = call.q.stride;
  block.out_stride = call.out.stride;
  block.q_bf16 = call.q.dtype == DType::kBF16;
  block.out_bf16 = call.out.dtype == DType::kBF16;
  block.kv_bf16 = call.geometry.dtype == DType::kBF16;
  block.head_dim = call.shape.head_dim;
  block.heads = 1;
  block.scale = call.shape.scale;
  block.position = call.rows.position + first;
  block.rows = static_cast<std::int32_t>(std::min(kBlockRows, call.rows.rows - first));
  block.k_pages = call.rows.pages.k.data();
  block.v_pages = call.rows.pages.v.data();
  block.plane_offset = call.geometry.PlaneOffset(call.layer, kv_head);
  block.scratch =
      context_.Scratch(thread, context_.kernels.sparse_scratch_bytes(call.shape.head_dim));
  const SparseIndex& index = call.index;
  const auto entry = static_cast<std::size_t>(task.head * index.blocks + task.block);
  args.ranges =
      reinterpret_cast<const std::uint32_t*>(index.ranges.data() + index.range_offsets[entry]);
  args.range_count = index.range_offsets[entry + 1] - index.range_offsets[entry];
  args.columns = index.columns.data() + index.column_offsets[entry];
  args.column_count = index.column_offsets[entry + 1] - index.column_offsets[entry];
  context_.kernels.sparse(args);
}

void SparseAttentionRunner::Run(ConstMatrixView q, const AttentionShape& shape,
                                const KvGeometry& geometry, std::int32_t layer,
                                const SequenceRows& rows, SparseSelection& selection,
                                MatrixView out) {
  CheckShapes("SparseAttention", q, shape, geometry, layer, rows);
  CheckOutput(q, rows, out);
  HostSelection& host = HostSelection::Of(selection);
  CheckIndex(host.index, rows.position, rows.rows, shape.query_heads);
  Plan(host.index, shape.query_heads);
  const Call call{q, shape, geometry, layer, rows, host.index, out};
  context_.pool.Run(static_cast<std::int64_t>(tasks_.size()),
                    [&](std::int64_t i, std::int32_t thread) {
                      RunTask(call, tasks_[static_cast<std::size_t>(i)], thread);
                    });
  host.CountAttended();
}

}  // namespace longshadow::cpu

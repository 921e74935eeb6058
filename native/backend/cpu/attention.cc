// Two kernels; a sequence's own number of rows decides which one it takes.
//
//   more than 4 rows   blocks of 64 rows, all query heads of a kv head together, key tiles in
//                      ascending order from key 0: a row's bits do not depend on its block
//   at most 4 rows     pieces of 4,096 keys, each scored by one thread for all rows and query
//                      heads of a kv head; then the pieces are merged in ascending order, so the
//                      bits depend on the sequence's length alone, not on threads or batch
//
// Threads claim tasks biggest first: causal work is uneven.
#include "attention.h"

#include <algorithm>
#include <cmath>

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kDecodeRows = 4;
constexpr std::int64_t kPieceKeys = 4096;

std::int64_t PieceFloats(std::int64_t queries, std::int64_t head_dim) {
  return queries * (head_dim + 2);
}

}  // namespace

void AttentionRunner::PlanPrefill(const SequenceRows& sequence, const AttentionShape& shape) {
  for (std::int64_t begin = 0; begin < sequence.rows; begin += kBlockRows) {
    const std::int64_t rows = std::min(kBlockRows, sequence.rows - begin);
    for (std::int32_t h = 0; h < shape.kv_heads; ++h) {
      tasks_.push_back({&sequence, h, false, begin, 0, (sequence.position + begin + rows) * rows});
    }
  }
}

void AttentionRunner::PlanDecode(const SequenceRows& sequence, const AttentionShape& shape) {
  const std::int64_t keys = sequence.position + sequence.rows;
  const std::int64_t queries = sequence.rows * (shape.query_heads / shape.kv_heads);
  for (std::int32_t h = 0; h < shape.kv_heads; ++h) {
    for (std::int64_t begin = 0; begin < keys; begin += kPieceKeys) {
      // Few rows are bound by memory: a piece costs about as much as 16 rows over its keys.
      const std::int64_t cost = std::min(kPieceKeys, keys - begin) * 16;
      tasks_.push_back({&sequence, h, true, begin, partial_floats_, cost});
      if (begin == 0) merges_.push_back(tasks_.back());
      partial_floats_ += PieceFloats(queries, shape.head_dim);
    }
  }
}

void AttentionRunner::RunPrefill(const Call& call, const Task& task, std::int32_t thread) {
  const SequenceRows& s = *task.sequence;
  const std::int32_t group = call.shape.query_heads / call.shape.kv_heads;
  const std::int64_t row = s.row_begin + task.begin;
  const std::int64_t column = static_cast<std::int64_t>(task.kv_head) * group * call.shape.head_dim;
  PrefillArgs args;
  args.q = static_cast<const std::byte*>(call.q.data) +
           (row * call.q.stride + column) * static_cast<std::int64_t>(DTypeBytes(call.q.dtype));
  args.out =
      static_cast<std::byte*>(call.out.data) +
      (row * call.out.stride + column) * static_cast<std::int64_t>(DTypeBytes(call.out.dtype));
  args.q_stride = call.q.stride;
  args.out_stride = call.out.stride;
  args.q_bf16 = call.q.dtype == DType::kBF16;
  args.out_bf16 = call.out.dtype == DType::kBF16;
  args.kv_bf16 = call.geometry.dtype == DType::kBF16;
  args.head_dim = call.shape.head_dim;
  args.heads = group;
  args.scale = call.shape.scale;
  args.position = s.position + task.begin;
  args.rows = static_cast<std::int32_t>(std::min(kBlockRows, s.rows - task.begin));
  args.k_pages = s.pages.k.data();
  args.v_pages = s.pages.v.data();
  args.plane_offset = call.geometry.PlaneOffset(call.layer, task.kv_head);
  args.scratch =
      context_.Scratch(thread, context_.kernels.prefill_scratch_bytes(call.shape.head_dim, group));
  context_.kernels.prefill(args);
}

void AttentionRunner::RunDecode(const Call& call, const Task& task, std::int32_t thread) {
  const SequenceRows& s = *task.sequence;
  const std::int32_t group = call.shape.query_heads / call.shape.kv_heads;
  const auto rows = static_cast<std::int32_t>(s.rows);
  const std::int64_t queries = s.rows * group;
  const std::int64_t column = static_cast<std::int64_t>(task.kv_head) * group * call.shape.head_dim;
  DecodeArgs args;
  args.q =
      static_cast<const std::byte*>(call.q.data) +
      (s.row_begin * call.q.stride + column) * static_cast<std::int64_t>(DTypeBytes(call.q.dtype));
  args.q_stride = call.q.stride;
  args.q_bf16 = call.q.dtype == DType::kBF16;
  args.kv_bf16 = call.geometry.dtype == DType::kBF16;
  args.head_dim = call.shape.head_dim;
  args.heads = group;
  args.scale = call.shape.scale;
  args.position = s.position;
  args.rows = rows;
  args.k_pages = s.pages.k.data();
  args.v_pages = s.pages.v.data();
  args.plane_offset = call.geometry.PlaneOffset(call.layer, task.kv_head);
  args.key_begin = task.begin;
  args.key_end = std::min(task.begin + kPieceKeys, s.position + s.rows);
  args.o = reinterpret_cast<float*>(partials_.Reserve(0)) + task.partial;
  args.max = args.o + queries * call.shape.head_dim;
  args.sum = args.max + queries;
  args.scratch =
      context_.Scratch(thread, context_.kernels.decode_scratch_bytes(
                                   call.shape.head_dim, static_cast<std::int32_t>(queries)));
  context_.kernels.decode(args);
}

void AttentionRunner::Merge(const Call& call, const Task& first, std::int32_t thread) {
  const SequenceRows& s = *first.sequence;
  const std::int64_t dim = call.shape.head_dim;
  const std::int64_t group = call.shape.query_heads / call.shape.kv_heads;
  const std::int64_t queries = s.rows * group;
  const std::int64_t pieces = (s.position + s.rows + kPieceKeys - 1) / kPieceKeys;
  auto* row = reinterpret_cast<float*>(context_.Scratch(thread, dim * 4));
  const float* partials = reinterpret_cast<const float*>(partials_.data()) + first.partial;
  for (std::int64_t query = 0; query < queries; ++query) {
    const auto piece = [&](std::int64_t i) { return partials + i * PieceFloats(queries, dim); };
    const auto max = [&](std::int64_t i) { return piece(i)[queries * dim + query]; };
    float top = max(0);
    for (std::int64_t i = 1; i < pieces; ++i) top = std::max(top, max(i));
    float sum = 0;
    std::fill_n(row, dim, 0.0F);
    for (std::int64_t i = 0; i < pieces; ++i) {
      const float weight = std::exp2(max(i) - top);
      sum += weight * piece(i)[queries * (dim + 1) + query];
      const float* o = piece(i) + query * dim;
      for (std::int64_t d = 0; d < dim; ++d) row[d] += weight * o[d];
    }
    for (std::int64_t d = 0; d < dim; ++d) row[d] /= sum;
    const std::int64_t at = (s.row_begin + query / group) * call.out.stride +
                            (first.kv_head * group + query % group) * dim;
    if (call.out.dtype == DType::kBF16) {
      context_.kernels.f32_to_bf16(row, static_cast<std::uint16_t*>(call.out.data) + at, dim);
    } else {
      std::copy_n(row, dim, static_cast<float*>(call.out.data) + at);
    }
  }
}

void AttentionRunner::Run(ConstMatrixView q, const AttentionShape& shape,
                          const KvGeometry& geometry, std::int32_t layer,
                          std::span<const SequenceRows> sequences, MatrixView out) {
  Require(shape.head_dim >= 8 && shape.head_dim <= 256 && shape.head_dim % 8 == 0 &&
              shape.head_dim == geometry.head_dim,
          "Attention: head_dim must be a multiple of 8 from 8 to 256");
  Require(shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0 &&
              shape.kv_heads == geometry.kv_heads && layer >= 0 && layer < geometry.layers,
          "Attention: heads or layer");
  const std::int64_t columns = static_cast<std::int64_t>(shape.query_heads) * shape.head_dim;
  Require(q.cols == columns && out.cols == columns && q.rows == out.rows,
          "Attention: shapes of q and out");
  tasks_.clear();
  merges_.clear();
  partial_floats_ = 0;
  for (const SequenceRows& s : sequences) {
    const std::int64_t pages = (s.position + s.rows + kPageTokens - 1) / kPageTokens;
    Require(s.position >= 0 && s.row_begin >= 0 && s.row_begin + s.rows <= q.rows &&
                pages <= static_cast<std::int64_t>(s.pages.k.size()) &&
                pages <= static_cast<std::int64_t>(s.pages.v.size()),
            "Attention: a row or a page is missing");
    if (s.rows > kDecodeRows) {
      PlanPrefill(s, shape);
    } else if (s.rows > 0) {
      PlanDecode(s, shape);
    }
  }
  std::stable_sort(tasks_.begin(), tasks_.end(),
                   [](const Task& a, const Task& b) { return a.cost > b.cost; });
  partials_.Reserve(partial_floats_ * 4);
  const Call call{q, shape, geometry, layer, out};
  context_.pool.Run(static_cast<std::int64_t>(tasks_.size()),
                    [&](std::int64_t i, std::int32_t thread) {
                      const Task& task = tasks_[static_cast<std::size_t>(i)];
                      if (task.decode) {
                        RunDecode(call, task, thread);
                      } else {
                        RunPrefill(call, task, thread);
                      }
                    });
  context_.pool.Run(static_cast<std::int64_t>(merges_.size()),
                    [&](std::int64_t i, std::int32_t thread) {
                      Merge(call, merges_[static_cast<std::size_t>(i)], thread);
                    });
}

}  // namespace longshadow::cpu

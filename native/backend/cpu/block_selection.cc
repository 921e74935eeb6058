// Pooling reads every key once (memory-bound); the query heads of a group share the result. Scores
// are products of fp32 means by the kernel of fp32 weights, made for a few query blocks at a time,
// as often as the selection asks for them: 12 rows of a million keys' blocks are 768 KiB.
#include "block_selection.h"

#include <algorithm>

#include "check_shapes.h"

namespace longshadow::cpu {
namespace {

/// Query blocks that are scored together: two register tiles of the product, so that a panel of
/// pooled keys is read half as often.
constexpr std::int64_t kRowsTogether = 12;

}  // namespace

float* BlockSelector::KeyPanel(std::int32_t kv_head, std::int64_t panel) const {
  auto* keys = reinterpret_cast<float*>(const_cast<std::byte*>(keys_.data()));
  return keys + (kv_head * Panels() + panel) * shape_.head_dim * kPanel;
}

float* BlockSelector::Queries(std::int32_t head) const {
  auto* queries = reinterpret_cast<float*>(const_cast<std::byte*>(queries_.data()));
  return queries + head * (chunk_.Queries() + 1) * shape_.head_dim;
}

void BlockSelector::PoolKeys(const KvGeometry& geometry, std::int32_t layer,
                             const SequenceRows& chunk, std::int32_t kv_head, std::int64_t panel,
                             std::int32_t thread) {
  const std::int64_t dim = shape_.head_dim;
  const std::int64_t keys = chunk.position + chunk.rows;
  const std::int64_t first = panel * kPanel;
  const std::int64_t blocks = std::min(kPanel, chunk_.Keys() - first);
  float* means = reinterpret_cast<float*>(context_.Scratch(thread, kPanel * dim * 4));
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = (first + b) * kBlockTokens;
    const std::int64_t row_bytes = dim * static_cast<std::int64_t>(DTypeBytes(geometry.dtype));
    MeanArgs args;
    args.rows = chunk.pages.k[static_cast<std::size_t>(begin / kPageTokens)] +
                geometry.PlaneOffset(layer, kv_head) + begin % kPageTokens * row_bytes;
    args.bf16 = geometry.dtype == DType::kBF16;
    args.stride = dim;
    args.count = std::min(kBlockTokens, keys - begin);
    args.dim = dim;
    args.factor = 1.0F / static_cast<float>(args.count);
    args.out = means + b * dim;
    context_.kernels.mean_rows(args);
  }
  float* out = KeyPanel(kv_head, panel);
  for (std::int64_t d = 0; d < dim; ++d) {
    for (std::int64_t b = 0; b < kPanel; ++b) {
      out[d * kPanel + b] = b < blocks ? means[b * dim + d] : 0.0F;
    }
  }
}

void BlockSelector::PoolQueries(ConstMatrixView q, const SequenceRows& chunk, std::int32_t head) {
  const std::int64_t dim = shape_.head_dim;
  const auto pool = [&](std::int64_t first, std::int64_t count, float* out) {
    const std::int64_t at = (chunk.row_begin + first) * q.stride + head * dim;
    MeanArgs args;
    args.rows =
        static_cast<const std::byte*>(q.data) + at * static_cast<std::int64_t>(DTypeBytes(q.dtype));
    args.bf16 = q.dtype == DType::kBF16;
    args.stride = q.stride;
    args.count = count;
    args.dim = dim;
    args.factor = shape_.scale / static_cast<float>(count);
    args.out = out;
    context_.kernels.mean_rows(args);
  };
  float* out = Queries(head);
  for (std::int64_t i = 0; i < chunk_.Queries(); ++i, out += dim) {
    const std::int64_t first = i * kBlockTokens;
    pool(first, std::min(kBlockTokens, chunk.rows - first), out);
  }
  const std::int64_t last = std::min(kEstimateRows, chunk.rows);
  pool(chunk.rows - last, last, out);
}

void BlockSelector::Pool(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                         std::int32_t layer, const SequenceRows& chunk,
                         std::span<const std::int32_t> heads, const CancellationFlag* interrupt) {
  CheckShapes("SelectKeys", q, shape, geometry, layer, chunk);
  shape_ = shape;
  chunk_ = {chunk.position, chunk.rows};
  interrupt_ = interrupt;
  keys_.Reserve(shape.kv_heads * Panels() * shape.head_dim * kPanel * 4);
  queries_.Reserve(shape.query_heads * (chunk_.Queries() + 1) * shape.head_dim * 4);
  const std::vector<std::int32_t> kv_heads = KvHeadsOf(heads, shape);
  const std::int64_t key_tasks = static_cast<std::int64_t>(kv_heads.size()) * Panels();
  const auto tasks = key_tasks + static_cast<std::int64_t>(heads.size());
  context_.pool.Run(tasks, [&](std::int64_t task, std::int32_t thread) {
    ThrowIfCancelled(interrupt);
    if (task < key_tasks) {
      const auto kv = static_cast<std::size_t>(task / Panels());
      PoolKeys(geometry, layer, chunk, kv_heads[kv], task % Panels(), thread);
    } else {
      PoolQueries(q, chunk, heads[static_cast<std::size_t>(task - key_tasks)]);
    }
  });
}

void BlockSelector::Score(std::int32_t head, const float* queries, std::int64_t rows,
                          std::int64_t visible, float* scores) const {
  const std::int32_t kv_head = head / (shape_.query_heads / shape_.kv_heads);
  GemmArgs args;
  args.x = queries;
  args.x_stride = shape_.head_dim;
  args.rows = rows;
  args.in = shape_.head_dim;
  args.y_stride = Panels() * kPanel;
  args.columns = kPanel;
  for (std::int64_t panel = 0; panel * kPanel < visible; ++panel) {
    args.panel = KeyPanel(kv_head, panel);
    args.y = scores + panel * kPanel;
    context_.kernels.gemm_f32(args);
  }
}

BlockRows BlockSelector::Rows(std::int32_t head, bool softmax, std::int32_t thread) const {
  return [this, head, softmax, thread](const VisitBlockRow& visit) {
    const std::int64_t stride = Panels() * kPanel;
    float* scores = reinterpret_cast<float*>(context_.Scratch(thread, kRowsTogether * stride * 4));
    for (std::int64_t first = 0; first < chunk_.Queries(); first += kRowsTogether) {
      ThrowIfCancelled(interrupt_);
      const std::int64_t rows = std::min(kRowsTogether, chunk_.Queries() - first);
      const float* queries = Queries(head) + first * shape_.head_dim;
      Score(head, queries, rows, chunk_.Visible(first + rows - 1), scores);
      for (std::int64_t r = 0; r < rows; ++r) {
        float* row = scores + r * stride;
        const std::int64_t visible = chunk_.Visible(first + r);
        if (softmax) context_.kernels.softmax(row, visible);
        visit(first + r, {row, static_cast<std::size_t>(visible)});
      }
    }
  };
}

HeadSelection BlockSelector::BlockSparse(std::int32_t head, const HeadBudget& budget,
                                         std::int32_t thread) const {
  return LargestBlocks(chunk_, Rows(head, false, thread), budget.tiles);
}

HeadSelection BlockSelector::Flex(std::int32_t head, const LineScores& lines,
                                  const HeadBudget& budget, const FlexOptions& flex,
                                  std::int32_t thread) const {
  std::vector<float> pooled(static_cast<std::size_t>(Panels() * kPanel));
  const float* queries = Queries(head) + chunk_.Queries() * shape_.head_dim;
  Score(head, queries, 1, chunk_.Keys(), pooled.data());
  pooled.resize(static_cast<std::size_t>(chunk_.Keys()));
  context_.kernels.softmax(pooled.data(), chunk_.Keys());
  FlexEstimate estimate;
  estimate.lines = lines;
  estimate.line_rows = std::min(kEstimateRows, chunk_.rows);
  estimate.pooled = pooled;
  estimate.probabilities = Rows(head, true, thread);
  estimate.interrupt = interrupt_;
  return FlexBlocks(chunk_, estimate, budget, flex);
}

}  // namespace longshadow::cpu

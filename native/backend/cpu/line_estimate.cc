// Spans of 8,192 keys are scored by one thread each, twice: for each row's maximum and sum, then,
// when those of all spans are merged, for the masses of columns and diagonals. A diagonal that
// crosses from one span to the next belongs to the first of them: the second leaves its part in an
// edge that is added at the end. So spans alone decide the bits, never threads.
#include "line_estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "check_shapes.h"

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kSpanKeys = 8192;

}  // namespace

struct LineEstimator::Call {
  const ConstMatrixView& q;
  const AttentionShape& shape;
  const KvGeometry& geometry;
  std::int32_t layer;
  const SequenceRows& rows;
  std::span<const std::int32_t> heads;
  std::span<const LineScores> scores;
  std::int64_t keys;
  std::int64_t spans;
};

EstimateArgs LineEstimator::SpanArgs(const Call& call, std::int64_t head, std::int64_t span,
                                     std::int32_t thread) {
  const std::int32_t query_head = call.heads[static_cast<std::size_t>(head)];
  const std::int32_t kv_head = query_head / (call.shape.query_heads / call.shape.kv_heads);
  const std::int64_t element = call.rows.row_begin * call.q.stride +
                               static_cast<std::int64_t>(query_head) * call.shape.head_dim;
  const std::int64_t at = head * call.spans + span;
  EstimateArgs args;
  args.q = static_cast<const std::byte*>(call.q.data) +
           element * static_cast<std::int64_t>(DTypeBytes(call.q.dtype));
  args.q_stride = call.q.stride;
  args.q_bf16 = call.q.dtype == DType::kBF16;
  args.kv_bf16 = call.geometry.dtype == DType::kBF16;
  args.head_dim = call.shape.head_dim;
  args.scale = call.shape.scale;
  args.position = call.rows.position;
  args.rows = static_cast<std::int32_t>(call.rows.rows);
  args.k_pages = call.rows.pages.k.data();
  args.plane_offset = call.geometry.PlaneOffset(call.layer, kv_head);
  args.key_begin = span * kSpanKeys;
  args.key_end = std::min(args.key_begin + kSpanKeys, call.keys);
  args.max = reinterpret_cast<float*>(weights_.Reserve(0)) + at * 2 * kBlockRows;
  args.sum = args.max + kBlockRows;
  args.shift = reinterpret_cast<const float*>(shifts_.data()) + head * kBlockRows;
  args.vertical = call.scores[static_cast<std::size_t>(head)].vertical.data();
  args.slash = call.scores[static_cast<std::size_t>(head)].slash.data();
  args.edge = span == 0 ? nullptr : reinterpret_cast<float*>(edges_.Reserve(0)) + at * kBlockRows;
  args.scratch =
      context_.Scratch(thread, context_.kernels.estimate_scratch_bytes(call.shape.head_dim));
  return args;
}

void LineEstimator::MergeWeights(const Call& call, std::int64_t head) {
  const float* weights =
      reinterpret_cast<const float*>(weights_.data()) + head * call.spans * 2 * kBlockRows;
  float* shifts = reinterpret_cast<float*>(shifts_.Reserve(0)) + head * kBlockRows;
  bool nan = false;
  for (std::int64_t row = 0; row < kBlockRows; ++row) {
    const auto max = [&](std::int64_t span) { return weights[span * 2 * kBlockRows + row]; };
    float top = max(0);
    for (std::int64_t span = 1; span < call.spans; ++span) top = std::max(top, max(span));
    double sum = 0;
    for (std::int64_t span = 0; span < call.spans; ++span) {
      sum += static_cast<double>(weights[(span * 2 + 1) * kBlockRows + row]) *
             std::exp2(static_cast<double>(max(span)) - static_cast<double>(top));
    }
    const bool padding = row >= call.rows.rows;
    nan = nan || (!padding && std::isnan(sum));
    // A lane without a row: so far down that each of its probabilities is 0.
    shifts[row] =
        padding ? -1e30F : static_cast<float>(-(static_cast<double>(top) + std::log2(sum)));
  }
  if (nan) std::fill_n(shifts, kBlockRows, std::numeric_limits<float>::quiet_NaN());
}

void LineEstimator::MergeEdges(const Call& call, std::int64_t head) {
  const std::span<float> slash = call.scores[static_cast<std::size_t>(head)].slash;
  for (std::int64_t span = 1; span < call.spans; ++span) {
    const float* edge =
        reinterpret_cast<const float*>(edges_.data()) + (head * call.spans + span) * kBlockRows;
    const std::int64_t first = call.rows.position - span * kSpanKeys + 1;
    for (std::int64_t x = std::max<std::int64_t>(0, -first); x < kBlockRows - 1; ++x) {
      slash[static_cast<std::size_t>(first + x)] += edge[x];
    }
  }
}

void LineEstimator::Run(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                        std::int32_t layer, const SequenceRows& rows,
                        std::span<const std::int32_t> heads, std::span<const LineScores> scores,
                        const CancellationFlag* interrupt) {
  const std::int64_t keys = rows.position + rows.rows;
  CheckShapes("EstimateLines", q, shape, geometry, layer, rows);
  Require(rows.rows <= kBlockRows, "EstimateLines: 1 to 64 rows");
  Require(heads.size() == scores.size(), "EstimateLines: as many scores as heads");
  for (std::size_t h = 0; h < heads.size(); ++h) {
    Require(heads[h] >= 0 && heads[h] < shape.query_heads &&
                static_cast<std::int64_t>(scores[h].vertical.size()) == keys &&
                static_cast<std::int64_t>(scores[h].slash.size()) == keys,
            "EstimateLines: a head's number, or scores that are not as long as the keys");
  }
  const auto count = static_cast<std::int64_t>(heads.size());
  const Call call{
      q, shape, geometry, layer, rows, heads, scores, keys, (keys + kSpanKeys - 1) / kSpanKeys};
  constexpr std::int64_t kRowBytes = kBlockRows * 4;
  weights_.Reserve(count * call.spans * 2 * kRowBytes);
  shifts_.Reserve(count * kRowBytes);
  edges_.Reserve(count * call.spans * kRowBytes);
  ThreadPool& pool = context_.pool;
  pool.Run(count * call.spans, [&](std::int64_t i, std::int32_t thread) {
    ThrowIfCancelled(interrupt);
    context_.kernels.estimate_weights(SpanArgs(call, i / call.spans, i % call.spans, thread));
  });
  pool.Run(count, [&](std::int64_t head, std::int32_t) { MergeWeights(call, head); });
  pool.Run(count * call.spans, [&](std::int64_t i, std::int32_t thread) {
    ThrowIfCancelled(interrupt);
    context_.kernels.estimate_lines(SpanArgs(call, i / call.spans, i % call.spans, thread));
  });
  for (std::int64_t head = 0; head < count; ++head) MergeEdges(call, head);
}

}  // namespace longshadow::cpu

// A query's upper logit is one product: [q, |q|] with [middle, reach], since the larger of q_d lo_d
// and q_d hi_d is q_d middle_d + |q_d| reach_d. Whole key blocks are scored for the queries of 16
// query blocks at a time, by the kernel of fp32 weights, so that a panel of bounds is read once for
// 256 queries: 16 MiB of logits a thread at a million keys. The bounds themselves are 80 bytes for
// each key and kv head of 128 elements: 640 MiB at a million keys with 8 kv heads. Groups are
// scored for the candidates of one query block, its 16 queries side by side in a vector.
#include "bound_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "check_shapes.h"

namespace longshadow::cpu {
namespace {

/// Query blocks whose logits of whole key blocks are made together.
constexpr std::int64_t kBatchBlocks = 16;
/// Rows of such a product: four register tiles, so that a panel stays in the first-level cache.
constexpr std::int64_t kQueriesTogether = 24;
/// Logit of a group without keys: finite, and its exponential is zero beside any other.
constexpr float kNoKeys = -1e30F;
static_assert(kBoundGroups == 4 && kBoundQueries == 16, "as ScoreBoundsArgs says");

/// Batches' selections of one head as one; dense where one of them is.
HeadSelection Join(std::span<const HeadSelection> parts) {
  HeadSelection head;
  head.form = HeadSelection::Form::kBlocks;
  head.block_offsets = {0};
  for (const HeadSelection& part : parts) {
    if (part.form == HeadSelection::Form::kDense) return {};
    const std::int64_t before = std::ssize(head.blocks);
    head.blocks.insert(head.blocks.end(), part.blocks.begin(), part.blocks.end());
    for (std::size_t i = 1; i < part.block_offsets.size(); ++i) {
      head.block_offsets.push_back(before + part.block_offsets[i]);
    }
  }
  return head;
}

}  // namespace

class BoundSelector::Batch {
 public:
  Batch(const BoundSelector& selector, std::int32_t head, std::int64_t first, std::int64_t blocks,
        std::int64_t tiles, std::int32_t thread)
      : of_(selector),
        head_(head),
        kv_head_(head / (selector.shape_.query_heads / selector.shape_.kv_heads)),
        first_(first),
        blocks_(blocks),
        tiles_(tiles),
        stride_(selector.Panels() * kPanel) {
    const std::int64_t queries = blocks * kBoundQueries;
    const std::int64_t transposed = of_.GroupFeatures() * kBoundQueries;
    const std::int64_t most = std::min(BoundCandidates(tiles), of_.chunk_.Keys());
    const std::int64_t logits = most * kBoundGroups * kBoundQueries;
    transposed_ = reinterpret_cast<float*>(of_.context_.Scratch(
        thread, (transposed + logits + queries * (of_.BlockFeatures() + stride_)) * 4));
    group_logits_ = transposed_ + transposed;
    queries_ = group_logits_ + logits;
    block_logits_ = queries_ + queries * of_.BlockFeatures();
  }

  HeadSelection Select(ConstMatrixView q, const SequenceRows& chunk) {
    LoadQueries(q, chunk);
    const std::int64_t last = of_.chunk_.Visible(first_ + blocks_ - 1);
    if (last > BoundCandidates(tiles_)) MakeBlockLogits(last);
    const BoundScores scores{[this](std::int64_t i, std::span<float> row) { ByBlock(i, row); },
                             [this](std::int64_t i, std::span<const std::uint32_t> blocks,
                                    std::span<float> row) { ByGroup(i, blocks, row); }};
    const std::int64_t first_row = first_ * kBlockTokens;
    const std::int64_t rows = std::min(blocks_ * kBlockTokens, chunk.rows - first_row);
    return BlocksByBounds({chunk.position + first_row, rows}, scores, tiles_);
  }

 private:
  /// [q, |q|] of every query, times the scale.
  void LoadQueries(ConstMatrixView q, const SequenceRows& chunk) {
    const std::int64_t dim = of_.shape_.head_dim;
    float* out = queries_;
    for (std::int64_t i = 0; i < blocks_ * kBoundQueries; ++i, out += 2 * dim) {
      const std::int64_t first = (first_ + i / kBoundQueries) * kBlockTokens;
      const std::int64_t rows = std::min(kBlockTokens, chunk.rows - first);
      const std::int64_t row = chunk.row_begin + first + BoundQueryRow(i % kBoundQueries, rows);
      const std::int64_t at = row * q.stride + head_ * dim;
      if (q.dtype == DType::kBF16) {
        of_.context_.kernels.bf16_to_f32(static_cast<const std::uint16_t*>(q.data) + at, out, dim);
      } else {
        std::copy_n(static_cast<const float*>(q.data) + at, dim, out);
      }
      for (std::int64_t d = 0; d < dim; ++d) {
        out[d] *= of_.shape_.scale;
        out[dim + d] = std::abs(out[d]);
      }
    }
  }

  void MakeBlockLogits(std::int64_t visible) {
    GemmArgs args;
    args.in = args.x_stride = of_.BlockFeatures();
    args.y_stride = stride_;
    args.columns = kPanel;
    const std::int64_t queries = blocks_ * kBoundQueries;
    for (std::int64_t panel = 0; panel * kPanel < visible; ++panel) {
      ThrowIfCancelled(of_.interrupt_);
      args.panel = of_.BlockPanel(kv_head_, panel);
      for (std::int64_t begin = 0; begin < queries; begin += kQueriesTogether) {
        args.rows = std::min(kQueriesTogether, queries - begin);
        args.x = queries_ + begin * args.x_stride;
        args.y = block_logits_ + begin * stride_ + panel * kPanel;
        of_.context_.kernels.gemm_f32(args);
      }
    }
  }

  void ByBlock(std::int64_t i, std::span<float> scores) const {
    const Kernels& kernels = of_.context_.kernels;
    const std::int64_t visible = std::ssize(scores);
    std::ranges::fill(scores, -std::numeric_limits<float>::infinity());
    bool nan = false;
    for (std::int64_t at = 0; at < kBoundQueries; ++at) {
      const float* logits = block_logits_ + (i * kBoundQueries + at) * stride_;
      const float top = kernels.max(logits, visible);
      const double sum = kernels.sum_exp(logits, top, visible);
      nan = nan || std::isnan(sum);
      kernels.larger_difference(logits, top + static_cast<float>(std::log(sum)), visible,
                                scores.data());
    }
    if (nan) scores.front() = std::numeric_limits<float>::quiet_NaN();
  }

  void ByGroup(std::int64_t i, std::span<const std::uint32_t> blocks, std::span<float> scores) {
    ThrowIfCancelled(of_.interrupt_);
    const std::int64_t features = of_.BlockFeatures();
    for (std::int64_t at = 0; at < kBoundQueries; ++at) {
      const float* query = queries_ + (i * kBoundQueries + at) * features;
      for (std::int64_t f = 0; f < features; ++f) transposed_[f * kBoundQueries + at] = query[f];
      transposed_[features * kBoundQueries + at] = 1;
    }
    ScoreBoundsArgs args;
    args.queries = transposed_;
    args.bounds = of_.Groups(kv_head_);
    args.features = of_.GroupFeatures();
    args.blocks = blocks.data();
    args.count = std::ssize(blocks);
    args.logits = group_logits_;
    args.scores = scores.data();
    of_.context_.kernels.score_bounds(args);
  }

  const BoundSelector& of_;
  std::int32_t head_;
  std::int32_t kv_head_;
  std::int64_t first_;  // query block of the chunk
  std::int64_t blocks_;
  std::int64_t tiles_;
  std::int64_t stride_;
  float* transposed_;    // [GroupFeatures()][16 queries], of one query block
  float* group_logits_;  // [candidates][4][16]
  float* queries_;       // [queries][BlockFeatures()]
  float* block_logits_;  // [queries][stride_]
};

float* BoundSelector::BlockPanel(std::int32_t kv_head, std::int64_t panel) const {
  auto* bounds = reinterpret_cast<float*>(const_cast<std::byte*>(blocks_.data()));
  return bounds + (kv_head * Panels() + panel) * BlockFeatures() * kPanel;
}

float* BoundSelector::Groups(std::int32_t kv_head) const {
  auto* bounds = reinterpret_cast<float*>(const_cast<std::byte*>(groups_.data()));
  return bounds + kv_head * Panels() * kPanel * GroupFeatures() * kBoundGroups;
}

void BoundSelector::BoundKeys(const KvGeometry& geometry, std::int32_t layer,
                              const SequenceRows& chunk, std::int32_t kv_head, std::int64_t panel,
                              std::int32_t thread) {
  const std::int64_t dim = shape_.head_dim;
  const std::int64_t end = chunk.position + chunk.rows;
  auto* bounds = reinterpret_cast<float*>(context_.Scratch(thread, 2 * dim * 4));
  // Writes [middle, reach] of keys [begin, begin + count), as far as there are any, to every
  // `stride`-th element from out on.
  const auto write = [&](std::int64_t begin, std::int64_t count, float* out, std::int64_t stride) {
    if (begin >= end) return false;
    const std::int64_t row_bytes = dim * static_cast<std::int64_t>(DTypeBytes(geometry.dtype));
    BoundArgs args;
    args.rows = chunk.pages.k[static_cast<std::size_t>(begin / kPageTokens)] +
                geometry.PlaneOffset(layer, kv_head) + begin % kPageTokens * row_bytes;
    args.bf16 = geometry.dtype == DType::kBF16;
    args.stride = dim;
    args.count = std::min(count, end - begin);
    args.dim = dim;
    args.middle = bounds;
    args.reach = bounds + dim;
    context_.kernels.bound_rows(args);
    for (std::int64_t d = 0; d < 2 * dim; ++d) out[d * stride] = bounds[d];
    return true;
  };
  float* blocks = BlockPanel(kv_head, panel);
  std::fill_n(blocks, BlockFeatures() * kPanel, 0.0F);
  for (std::int64_t b = 0; b < kPanel; ++b) {
    const std::int64_t block = panel * kPanel + b;
    if (!write(block * kBlockTokens, kBlockTokens, blocks + b, kPanel)) return;
    float* groups = Groups(kv_head) + block * GroupFeatures() * kBoundGroups;
    for (std::int64_t g = 0; g < kBoundGroups; ++g) {
      const std::int64_t begin = block * kBlockTokens + g * kBoundKeys;
      const bool has_keys = write(begin, kBoundKeys, groups + g, kBoundGroups);
      for (std::int64_t d = 0; !has_keys && d < 2 * dim; ++d) groups[d * kBoundGroups + g] = 0;
      groups[2 * dim * kBoundGroups + g] = has_keys ? 0 : kNoKeys;
    }
  }
}

std::vector<HeadSelection> BoundSelector::Select(ConstMatrixView q, const AttentionShape& shape,
                                                 const KvGeometry& geometry, std::int32_t layer,
                                                 const SequenceRows& chunk,
                                                 std::span<const std::int32_t> heads,
                                                 std::span<const HeadBudget> budgets,
                                                 const CancellationFlag* interrupt) {
  CheckShapes("SelectKeys", q, shape, geometry, layer, chunk);
  shape_ = shape;
  chunk_ = {chunk.position, chunk.rows};
  interrupt_ = interrupt;
  const std::int64_t panels = shape.kv_heads * Panels();
  blocks_.Reserve(panels * BlockFeatures() * kPanel * 4);
  groups_.Reserve(panels * kPanel * GroupFeatures() * kBoundGroups * 4);
  const std::vector<std::int32_t> kv_heads = KvHeadsOf(heads, shape);
  context_.pool.Run(std::ssize(kv_heads) * Panels(), [&](std::int64_t task, std::int32_t thread) {
    ThrowIfCancelled(interrupt);
    const auto kv = static_cast<std::size_t>(task / Panels());
    BoundKeys(geometry, layer, chunk, kv_heads[kv], task % Panels(), thread);
  });
  const std::int64_t batches = (chunk_.Queries() + kBatchBlocks - 1) / kBatchBlocks;
  std::vector<HeadSelection> parts(heads.size() * static_cast<std::size_t>(batches));
  context_.pool.Run(std::ssize(parts), [&](std::int64_t task, std::int32_t thread) {
    const std::int32_t head = heads[static_cast<std::size_t>(task / batches)];
    const std::int64_t first = task % batches * kBatchBlocks;
    const std::int64_t blocks = std::min(kBatchBlocks, chunk_.Queries() - first);
    const std::int64_t tiles = budgets[static_cast<std::size_t>(head)].tiles;
    parts[static_cast<std::size_t>(task)] =
        Batch(*this, head, first, blocks, tiles, thread).Select(q, chunk);
  });
  std::vector<HeadSelection> selections;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const auto count = static_cast<std::size_t>(batches);
    selections.push_back(Join(std::span(parts).subspan(i * count, count)));
  }
  return selections;
}

}  // namespace longshadow::cpu

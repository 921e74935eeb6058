#include "reference_key_bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "longshadow/block_selection.h"
#include "reference_row_attention.h"

namespace longshadow {
namespace {

/// Least and greatest of some keys, by dimension; NaN where a key is not finite.
struct Bounds {
  std::vector<double> low;
  std::vector<double> high;
};

Bounds BoundsOf(const HeadCache& cache, std::int64_t begin, std::int64_t end,
                std::int32_t head_dim) {
  const auto dim = static_cast<std::size_t>(head_dim);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Bounds bounds{std::vector<double>(dim, kInfinity), std::vector<double>(dim, -kInfinity)};
  std::vector<double> key(dim);
  for (std::int64_t position = begin; position < end; ++position) {
    cache.LoadKey(position, key);
    for (std::size_t d = 0; d < dim; ++d) {
      const bool nan = !std::isfinite(key[d]) || std::isnan(bounds.low[d]);
      bounds.low[d] = nan ? std::nan("") : std::min(bounds.low[d], key[d]);
      bounds.high[d] = nan ? std::nan("") : std::max(bounds.high[d], key[d]);
    }
  }
  return bounds;
}

double UpperLogit(std::span<const double> query, const Bounds& bounds, double scale) {
  double sum = 0;
  for (std::size_t d = 0; d < query.size(); ++d) {
    const double low = query[d] * bounds.low[d];
    const double high = query[d] * bounds.high[d];
    sum += std::isnan(low) || std::isnan(high) ? std::nan("") : std::max(low, high);
  }
  return scale * sum;
}

/// Raises scores[b] to the largest of u - ln(sum of e^u) over one query's logits of block b, of
/// which each has `groups` (fewer: the last).
void RaiseScores(std::span<const double> logits, std::int64_t groups, std::span<double> scores) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - top);
  const double normaliser = top + std::log(sum);
  for (std::size_t g = 0; g < logits.size(); ++g) {
    double& block = scores[g / static_cast<std::size_t>(groups)];
    const double score = logits[g] - normaliser;
    block = std::isnan(score) ? score : std::max(block, score);
  }
}

/// Queries of one head of a chunk, and bounds of its keys.
class BoundedHead {
 public:
  BoundedHead(const ConstMatrixView& q, const AttentionShape& shape, const HeadCache& cache,
              const SequenceRows& rows, std::int32_t head, const CancellationFlag* interrupt)
      : q_(q), shape_(shape), rows_(rows), head_(head), interrupt_(interrupt) {
    const std::int64_t keys = rows.position + rows.rows;
    const auto bound = [&](std::int64_t step, std::vector<Bounds>& bounds) {
      for (std::int64_t begin = 0; begin < keys; begin += step) {
        ThrowIfCancelled(interrupt);
        bounds.push_back(BoundsOf(cache, begin, std::min(begin + step, keys), shape.head_dim));
      }
    };
    bound(kBlockTokens, blocks_);
    bound(kBoundKeys, groups_);
  }

  void ByBlock(std::int64_t i, std::span<float> scores) const {
    const std::span<const Bounds> visible = std::span(blocks_).first(scores.size());
    Score(i, {visible.begin(), visible.end()}, 1, scores);
  }

  void ByGroup(std::int64_t i, std::span<const std::uint32_t> blocks,
               std::span<float> scores) const {
    std::vector<Bounds> groups;
    for (const std::uint32_t block : blocks) {
      const std::int64_t first = block * kBoundGroups;
      const std::int64_t end = std::min(first + kBoundGroups, std::ssize(groups_));
      groups.insert(groups.end(), groups_.begin() + first, groups_.begin() + end);
    }
    Score(i, groups, kBoundGroups, scores);
  }

 private:
  void Score(std::int64_t i, const std::vector<Bounds>& bounds, std::int64_t groups,
             std::span<float> scores) const {
    ThrowIfCancelled(interrupt_);
    const std::int64_t first = i * kBlockTokens;
    const std::int64_t count = std::min(kBlockTokens, rows_.rows - first);
    std::vector<double> largest(scores.size(), -std::numeric_limits<double>::infinity());
    for (std::int64_t at = 0; at < kBoundQueries; ++at) {
      const std::int64_t row = rows_.row_begin + first + BoundQueryRow(at, count);
      const auto query = LoadQuery(q_, row, head_, shape_.head_dim);
      std::vector<double> logits;
      for (const Bounds& bound : bounds) {
        logits.push_back(UpperLogit(query, bound, static_cast<double>(shape_.scale)));
      }
      RaiseScores(logits, groups, largest);
    }
    std::ranges::transform(largest, scores.begin(), [](double s) { return static_cast<float>(s); });
  }

  const ConstMatrixView& q_;
  const AttentionShape& shape_;
  const SequenceRows& rows_;
  std::int32_t head_;
  const CancellationFlag* interrupt_;
  std::vector<Bounds> blocks_;
  std::vector<Bounds> groups_;
};

}  // namespace

HeadSelection ReferenceSelectByBounds(const ConstMatrixView& q, const AttentionShape& shape,
                                      const KvGeometry& geometry, std::int32_t layer,
                                      const SequenceRows& chunk, std::int32_t head,
                                      const HeadBudget& budget, const CancellationFlag* interrupt) {
  const std::int32_t kv_head = head / (shape.query_heads / shape.kv_heads);
  const BoundedHead bounded(q, shape, {geometry, chunk.pages, layer, kv_head}, chunk, head,
                            interrupt);
  const BoundScores scores{[&](std::int64_t i, std::span<float> row) { bounded.ByBlock(i, row); },
                           [&](std::int64_t i, std::span<const std::uint32_t> blocks,
                               std::span<float> row) { bounded.ByGroup(i, blocks, row); }};
  return BlocksByBounds({chunk.position, chunk.rows}, scores, budget.tiles);
}

}  // namespace longshadow

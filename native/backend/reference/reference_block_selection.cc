#include "reference_block_selection.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "longshadow/block_selection.h"
#include "reference_row_attention.h"
#include "reference_sparse.h"

namespace longshadow {
namespace {

using Means = std::vector<std::vector<double>>;  // [blocks][head_dim]

/// Queries and keys of one head of a chunk, averaged over blocks.
class PooledHead {
 public:
  PooledHead(const ConstMatrixView& q, const AttentionShape& shape, const HeadCache& cache,
             const SequenceRows& rows, std::int32_t head, const CancellationFlag* interrupt)
      : q_(q),
        shape_(shape),
        rows_(rows),
        head_(head),
        interrupt_(interrupt),
        chunk_{rows.position, rows.rows} {
    const std::int64_t keys = rows.position + rows.rows;
    for (std::int64_t begin = 0; begin < keys; begin += kBlockTokens) {
      ThrowIfCancelled(interrupt);
      keys_.push_back(MeanKey(cache, begin, std::min(kBlockTokens, keys - begin)));
    }
  }

  const ChunkBlocks& chunk() const { return chunk_; }

  /// scale mean(queries of `count` rows of the chunk from `first` on) . mean(keys of block), for
  /// `visible` blocks.
  std::vector<double> Scores(std::int64_t first, std::int64_t count, std::int64_t visible) const {
    const std::vector<double> query = MeanQuery(first, count);
    std::vector<double> scores(static_cast<std::size_t>(visible));
    for (std::size_t b = 0; b < scores.size(); ++b) {
      double dot = 0;
      for (std::size_t d = 0; d < query.size(); ++d) dot += query[d] * keys_[b][d];
      scores[b] = dot * static_cast<double>(shape_.scale);
    }
    return scores;
  }

  /// Scores of query block i.
  std::vector<double> BlockScores(std::int64_t i) const {
    ThrowIfCancelled(interrupt_);
    const std::int64_t first = i * kBlockTokens;
    return Scores(first, std::min(kBlockTokens, rows_.rows - first), chunk_.Visible(i));
  }

 private:
  std::vector<double> MeanKey(const HeadCache& cache, std::int64_t first,
                              std::int64_t count) const {
    std::vector<double> mean(static_cast<std::size_t>(shape_.head_dim));
    std::vector<double> key(mean.size());
    for (std::int64_t i = 0; i < count; ++i) {
      cache.LoadKey(first + i, key);
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += key[d];
    }
    for (double& value : mean) value /= static_cast<double>(count);
    return mean;
  }

  std::vector<double> MeanQuery(std::int64_t first, std::int64_t count) const {
    std::vector<double> mean(static_cast<std::size_t>(shape_.head_dim));
    for (std::int64_t i = 0; i < count; ++i) {
      const auto query = LoadQuery(q_, rows_.row_begin + first + i, head_, shape_.head_dim);
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += query[d];
    }
    for (double& value : mean) value /= static_cast<double>(count);
    return mean;
  }

  const ConstMatrixView& q_;
  const AttentionShape& shape_;
  const SequenceRows& rows_;
  std::int32_t head_;
  const CancellationFlag* interrupt_;
  ChunkBlocks chunk_;
  Means keys_;
};

std::vector<float> Narrow(const std::vector<double>& values) {
  std::vector<float> narrow;
  for (const double value : values) narrow.push_back(static_cast<float>(value));
  return narrow;
}

/// NaN in one score makes all of them NaN.
std::vector<float> Softmax(std::vector<double> scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
  return Narrow(scores);
}

HeadSelection SelectFlex(const PooledHead& pooled, const SequenceRows& estimated,
                         const LineScores& lines, const HeadBudget& budget,
                         const FlexOptions& flex) {
  const ChunkBlocks& chunk = pooled.chunk();
  const std::vector<float> of_all =
      Softmax(pooled.Scores(chunk.rows - estimated.rows, estimated.rows, chunk.Keys()));
  FlexEstimate estimate;
  estimate.lines = lines;
  estimate.line_rows = estimated.rows;
  estimate.pooled = of_all;
  estimate.probabilities = [&](const VisitBlockRow& visit) {
    for (std::int64_t i = 0; i < chunk.Queries(); ++i) visit(i, Softmax(pooled.BlockScores(i)));
  };
  return FlexBlocks(chunk, estimate, budget, flex);
}

}  // namespace

HeadSelection ReferenceSelectBlocks(const ConstMatrixView& q, const AttentionShape& shape,
                                    const KvGeometry& geometry, std::int32_t layer,
                                    const SequenceRows& chunk, std::int32_t head,
                                    const HeadBudget& budget, const FlexOptions& flex,
                                    const CancellationFlag* interrupt) {
  const std::int32_t kv_head = head / (shape.query_heads / shape.kv_heads);
  const PooledHead pooled(q, shape, {geometry, chunk.pages, layer, kv_head}, chunk, head,
                          interrupt);
  if (budget.pattern == HeadPattern::kBlockSparse) {
    const BlockRows scores = [&](const VisitBlockRow& visit) {
      for (std::int64_t i = 0; i < pooled.chunk().Queries(); ++i) {
        visit(i, Narrow(pooled.BlockScores(i)));
      }
    };
    return LargestBlocks(pooled.chunk(), scores, budget.tiles);
  }
  CheckFlexOptions(flex);
  SequenceRows estimated = chunk;
  estimated.rows = std::min(kEstimateRows, chunk.rows);
  estimated.row_begin += chunk.rows - estimated.rows;
  estimated.position += chunk.rows - estimated.rows;
  std::vector<float> vertical(static_cast<std::size_t>(chunk.position + chunk.rows));
  std::vector<float> slash(vertical.size());
  const LineScores lines{vertical, slash};
  ReferenceEstimateLines(q, shape, geometry, layer, estimated, {&head, 1}, {&lines, 1}, interrupt);
  return SelectFlex(pooled, estimated, lines, budget, flex);
}

}  // namespace longshadow

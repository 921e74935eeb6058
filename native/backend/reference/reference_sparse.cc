#include "reference_sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "longshadow/error.h"
#include "reference_block_selection.h"
#include "reference_key_bounds.h"
#include "reference_row_attention.h"

namespace longshadow {
namespace {

void Require(bool condition, const char* what) {
  if (!condition) {
    throw Error(ErrorCode::kInvalidArgument, std::string("reference backend: ") + what);
  }
}

/// Sums of a head's lines in fp64: both [keys].
struct LineSums {
  std::vector<double> vertical;
  std::vector<double> slash;
};

LineSums SumLines(const ConstMatrixView& q, const AttentionShape& shape, const HeadCache& cache,
                  const SequenceRows& rows, std::int32_t head, const CancellationFlag* interrupt) {
  const auto keys = static_cast<std::size_t>(rows.position + rows.rows);
  std::vector<std::int64_t> positions(keys);
  std::iota(positions.begin(), positions.end(), 0);
  LineSums sums{std::vector<double>(keys), std::vector<double>(keys)};
  bool is_number = true;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    ThrowIfCancelled(interrupt);
    const auto query = LoadQuery(q, rows.row_begin + row, head, shape.head_dim);
    const auto own = static_cast<std::size_t>(rows.position + row);
    const auto weights = AttentionWeights(query, static_cast<double>(shape.scale), cache,
                                          std::span(positions).first(own + 1));
    is_number = is_number && !std::isnan(weights[own]);
    for (std::size_t key = 0; key <= own; ++key) {
      sums.vertical[key] += weights[key];
      sums.slash[own - key] += weights[key];
    }
  }
  if (!is_number) {
    std::ranges::fill(sums.vertical, std::numeric_limits<double>::quiet_NaN());
    std::ranges::fill(sums.slash, std::numeric_limits<double>::quiet_NaN());
  }
  return sums;
}

void Narrow(const std::vector<double>& sums, std::span<float> scores) {
  std::ranges::transform(sums, scores.begin(), [](double sum) { return static_cast<float>(sum); });
}

/// The chunk's last rows: those that speak for it in the estimate.
SequenceRows EstimateRowsOf(const SequenceRows& chunk) {
  SequenceRows last = chunk;
  last.rows = std::min(kEstimateRows, chunk.rows);
  last.row_begin += chunk.rows - last.rows;
  last.position += chunk.rows - last.rows;
  return last;
}

/// What choosing the keys of one head of a chunk looks at.
struct ChunkView {
  const ConstMatrixView& q;
  const AttentionShape& shape;
  const KvGeometry& geometry;
  std::int32_t layer;
  const SequenceRows& rows;
  const FlexOptions& flex;
  const CancellationFlag* interrupt;
  std::int64_t keys() const { return rows.position + rows.rows; }
};

HeadSelection SelectVerticalSlash(const ChunkView& chunk, std::int32_t head,
                                  const HeadBudget& budget) {
  std::vector<float> vertical(static_cast<std::size_t>(chunk.keys()));
  std::vector<float> slash(vertical.size());
  const LineScores scores{vertical, slash};
  ReferenceEstimateLines(chunk.q, chunk.shape, chunk.geometry, chunk.layer,
                         EstimateRowsOf(chunk.rows), {&head, 1}, {&scores, 1}, chunk.interrupt);
  return VerticalSlashSelection(scores, budget);
}

HeadSelection SelectHead(const ChunkView& chunk, std::int32_t head, const HeadBudget& budget) {
  ThrowIfCancelled(chunk.interrupt);
  switch (budget.pattern) {
    case HeadPattern::kDense:
      return {};
    case HeadPattern::kAShape:
      return AShapeSelection(budget, chunk.keys());
    case HeadPattern::kVerticalSlash:
      return SelectVerticalSlash(chunk, head, budget);
    case HeadPattern::kBlockSparse:
    case HeadPattern::kFlex:
      return ReferenceSelectBlocks(chunk.q, chunk.shape, chunk.geometry, chunk.layer, chunk.rows,
                                   head, budget, chunk.flex, chunk.interrupt);
    case HeadPattern::kKeyBounds:
      return ReferenceSelectByBounds(chunk.q, chunk.shape, chunk.geometry, chunk.layer, chunk.rows,
                                     head, budget, chunk.interrupt);
  }
  throw Error(ErrorCode::kInternal, "reference backend: a head pattern without a name");
}

/// Keys of an entry of the index, ascending.
std::vector<std::int64_t> KeysOfEntry(const SparseIndex& index, std::size_t entry) {
  std::vector<std::int64_t> keys;
  for (auto i = index.range_offsets[entry]; i < index.range_offsets[entry + 1]; ++i) {
    const KeyRange& range = index.ranges[static_cast<std::size_t>(i)];
    for (std::int64_t key = range.begin; key < range.end; ++key) keys.push_back(key);
  }
  for (auto i = index.column_offsets[entry]; i < index.column_offsets[entry + 1]; ++i) {
    keys.push_back(index.columns[static_cast<std::size_t>(i)]);
  }
  std::ranges::sort(keys);
  return keys;
}

}  // namespace

void ReferenceEstimateLines(const ConstMatrixView& q, const AttentionShape& shape,
                            const KvGeometry& geometry, std::int32_t layer,
                            const SequenceRows& rows, std::span<const std::int32_t> heads,
                            std::span<const LineScores> scores, const CancellationFlag* interrupt) {
  const auto keys = static_cast<std::size_t>(rows.position + rows.rows);
  Require(rows.rows > 0 && rows.rows <= kEstimateRows, "EstimateLines: 1 to 64 rows");
  Require(heads.size() == scores.size(), "EstimateLines: one pair of scores a head");
  for (std::size_t i = 0; i < heads.size(); ++i) {
    Require(heads[i] >= 0 && heads[i] < shape.query_heads, "EstimateLines: a query head");
    Require(scores[i].vertical.size() == keys && scores[i].slash.size() == keys,
            "EstimateLines: scores as long as the keys");
    const std::int32_t kv_head = heads[i] / (shape.query_heads / shape.kv_heads);
    const LineSums sums =
        SumLines(q, shape, {geometry, rows.pages, layer, kv_head}, rows, heads[i], interrupt);
    Narrow(sums.vertical, scores[i].vertical);
    Narrow(sums.slash, scores[i].slash);
  }
}

std::unique_ptr<HostSelection> ReferenceSelectKeys(
    const ConstMatrixView& q, const AttentionShape& shape, const KvGeometry& geometry,
    std::int32_t layer, const SequenceRows& chunk, std::span<const HeadBudget> budgets,
    const FlexOptions& flex, const CancellationFlag* interrupt) {
  Require(std::cmp_equal(budgets.size(), shape.query_heads), "SelectKeys: one budget a query head");
  Require(chunk.position >= 0 && chunk.position % kBlockTokens == 0,
          "SelectKeys: a chunk begins at a multiple of 64");
  Require(chunk.rows > 0, "SelectKeys: a chunk has rows");
  CheckBudgets(budgets);
  KeySelection selection{chunk.position, chunk.rows, {}};
  for (std::int32_t head = 0; head < shape.query_heads; ++head) {
    selection.heads.push_back(SelectHead({q, shape, geometry, layer, chunk, flex, interrupt}, head,
                                         budgets[static_cast<std::size_t>(head)]));
  }
  return std::make_unique<HostSelection>(std::move(selection));
}

void ReferenceSparseAttention(const ConstMatrixView& q, const AttentionShape& shape,
                              const KvGeometry& geometry, std::int32_t layer,
                              const SequenceRows& rows, SparseSelection& selection,
                              const MatrixView& out) {
  HostSelection& host = HostSelection::Of(selection);
  const SparseIndex& index = host.index;
  CheckIndex(index, rows.position, rows.rows, shape.query_heads);
  for (std::int32_t head = 0; head < shape.query_heads; ++head) {
    const std::int32_t kv_head = head / (shape.query_heads / shape.kv_heads);
    for (std::int64_t block = 0; block < index.blocks; ++block) {
      const auto keys = KeysOfEntry(index, static_cast<std::size_t>(head * index.blocks + block));
      const std::int64_t end = std::min(rows.rows, (block + 1) * kBlockTokens);
      for (std::int64_t row = block * kBlockTokens; row < end; ++row) {
        const auto visible = std::ranges::upper_bound(keys, rows.position + row) - keys.begin();
        AttendRow(q, rows.row_begin + row, head, shape, {geometry, rows.pages, layer, kv_head},
                  std::span(keys).first(static_cast<std::size_t>(visible)), out);
      }
    }
  }
  host.CountAttended();
}

}  // namespace longshadow

#include "engine/pattern_trial.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/attention_widths.h"
#include "engine/relative_error.h"
#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

void Require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorCode::kInvalidArgument, message);
}

}  // namespace

void CheckTrial(const PatternTrialRequest& trial, const EngineInfo& info) {
  Require(!trial.candidates.empty(), "there is no candidate to try");
  CheckBudgets(trial.candidates);
  if (!trial.shown) return;
  const auto [layer, head, candidate] = *trial.shown;
  const std::int32_t layers = info.layer_end - info.layer_begin;
  const std::int32_t heads = info.config.query_heads;
  Require(layer >= 0 && layer < layers && head >= 0 && head < heads && candidate >= 0 &&
              std::cmp_less(candidate, trial.candidates.size()),
          "the head to show is layer " + std::to_string(layer) + ", head " + std::to_string(head) +
              ", candidate " + std::to_string(candidate) + "; there are " + std::to_string(layers) +
              " layers, " + std::to_string(heads) + " query heads and " +
              std::to_string(trial.candidates.size()) + " candidates");
}

PatternTrial::PatternTrial(Backend& backend, const AttentionShape& shape,
                           const KvGeometry& geometry, DType dtype, const TrialRows& rows,
                           StackSequence& sequence, PatternTrialResult& result)
    : backend_(backend),
      shape_(shape),
      geometry_(geometry),
      trial_(rows.trial),
      end_(rows.end),
      sequence_(sequence),
      result_(result),
      queries_(backend, dtype, sequence.rows.rows, QueryWidth(shape)),
      tried_(backend, dtype, kRowBlock, QueryWidth(shape)) {
  const std::size_t size = static_cast<std::size_t>(geometry.layers) *
                           static_cast<std::size_t>(shape.query_heads) * trial_.candidates.size();
  result_.errors.assign(size, 0);
  result_.attended_keys.assign(size, 0);
  result_.rows = end_ - sequence.rows.position;
  if (!trial_.shown) return;
  result_.shown.position = sequence.rows.position;
  result_.shown.rows = result_.rows;
  result_.shown.range_offsets = {0};
  result_.shown.column_offsets = {0};
}

MatrixView PatternTrial::Queries(const RowBlock& block) const {
  return RowsOf(queries_.First(sequence_.rows.rows), block.row_begin, block.rows);
}

std::size_t PatternTrial::Place(std::size_t head, std::size_t candidate) const {
  const auto heads = static_cast<std::size_t>(shape_.query_heads);
  return (static_cast<std::size_t>(layer_) * heads + head) * trial_.candidates.size() + candidate;
}

void PatternTrial::Select(std::int32_t layer) {
  layer_ = layer;
  selections_.clear();
  const StackedRows& rows = sequence_.rows;
  for (const HeadBudget& candidate : trial_.candidates) {
    if (!Poll(sequence_)) return;
    const std::vector<HeadBudget> all(static_cast<std::size_t>(shape_.query_heads), candidate);
    selections_.push_back(
        backend_.SelectKeys(queries_.First(rows.rows), shape_, geometry_, layer,
                            SequenceRows{0, rows.rows, rows.position, sequence_.pages}, all,
                            trial_.flex, sequence_.cancellation));
  }
}

void PatternTrial::Compare(const RowBlock& block, const MatrixView& dense) {
  RowPiece piece = block.pieces.front();
  piece.rows = std::min(piece.rows, end_ - piece.position);
  if (piece.rows <= 0) return;
  for (std::size_t candidate = 0; candidate < selections_.size(); ++candidate) {
    if (!Poll(sequence_)) return;
    backend_.IndexRows(*selections_[candidate], piece.position, piece.rows);
    Show(candidate);
    backend_.SparseAttention(Queries(block), shape_, geometry_, layer_,
                             InBlock(block, piece, sequence_), *selections_[candidate],
                             tried_.First(block.rows));
    backend_.Synchronize();
    AddErrors(candidate, RowsOf(dense, 0, piece.rows));
  }
}

void PatternTrial::AddErrors(std::size_t candidate, const MatrixView& dense) {
  const MatrixView tried = tried_.First(dense.rows);
  for (std::size_t head = 0; head < static_cast<std::size_t>(shape_.query_heads); ++head) {
    const std::int64_t column = static_cast<std::int64_t>(head) * shape_.head_dim;
    const MatrixView sparse = ColumnsOf(tried, column, shape_.head_dim);
    const MatrixView exact = ColumnsOf(dense, column, shape_.head_dim);
    double sum = 0;
    for (std::int64_t row = 0; row < dense.rows; ++row) {
      sum += RelativeError(RowsOf(sparse, row, 1), RowsOf(exact, row, 1));
    }
    result_.errors[Place(head, candidate)] += sum;
  }
}

void PatternTrial::Show(std::size_t candidate) {
  const auto& shown = trial_.shown;
  if (!shown || shown->layer != layer_ || std::cmp_not_equal(shown->candidate, candidate)) return;
  const SparseIndex index = selections_[candidate]->IndexToHost();
  SparseIndex& all = result_.shown;
  all.blocks += index.blocks;
  for (std::int64_t block = 0; block < index.blocks; ++block) {
    const auto entry = static_cast<std::size_t>(shown->head * index.blocks + block);
    all.ranges.insert(all.ranges.end(), index.ranges.begin() + index.range_offsets[entry],
                      index.ranges.begin() + index.range_offsets[entry + 1]);
    all.range_offsets.push_back(static_cast<std::int64_t>(all.ranges.size()));
    all.columns.insert(all.columns.end(), index.columns.begin() + index.column_offsets[entry],
                       index.columns.begin() + index.column_offsets[entry + 1]);
    all.column_offsets.push_back(static_cast<std::int64_t>(all.columns.size()));
  }
}

void PatternTrial::FinishLayer() {
  for (std::size_t candidate = 0; candidate < selections_.size(); ++candidate) {
    const std::vector<std::int64_t> attended = selections_[candidate]->AttendedKeys();
    for (std::size_t head = 0; head < attended.size(); ++head) {
      result_.attended_keys[Place(head, candidate)] += attended[head];
    }
  }
  selections_.clear();
}

}  // namespace longshadow

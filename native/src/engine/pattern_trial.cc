#include "engine/pattern_trial.h"

#include <cmath>

namespace longshadow {
namespace {

std::int64_t QueryWidth(const AttentionShape& shape) {
  return std::int64_t{shape.query_heads} * shape.head_dim;
}

double Element(const ConstMatrixView& matrix, std::int64_t row, std::int64_t column) {
  const std::int64_t index = row * matrix.stride + column;
  if (matrix.dtype == DType::kF32) return static_cast<const float*>(matrix.data)[index];
  return static_cast<const BFloat16*>(matrix.data)[index].ToFloat();
}

/// |a - b| / |b| of columns [begin, begin + columns) of one row; 1 where that is no number.
double RowError(const ConstMatrixView& a, const ConstMatrixView& b, std::int64_t row,
                std::int64_t begin, std::int64_t columns) {
  double difference = 0;
  double norm = 0;
  for (std::int64_t column = begin; column < begin + columns; ++column) {
    const double exact = Element(b, row, column);
    const double error = Element(a, row, column) - exact;
    difference += error * error;
    norm += exact * exact;
  }
  if (difference == 0) return 0;
  const double relative = std::sqrt(difference / norm);
  return std::isfinite(relative) ? relative : 1;
}

}  // namespace

PatternTrial::PatternTrial(Backend& backend, const AttentionShape& shape,
                           const KvGeometry& geometry, DType dtype,
                           std::span<const HeadBudget> candidates, const FlexOptions& flex,
                           StackSequence& sequence, PatternTrialResult& result)
    : backend_(backend),
      shape_(shape),
      geometry_(geometry),
      candidates_(candidates),
      flex_(flex),
      sequence_(sequence),
      result_(result),
      queries_(backend, dtype, sequence.rows.rows, QueryWidth(shape)),
      tried_(backend, dtype, kRowBlock, QueryWidth(shape)) {
  const std::size_t size = static_cast<std::size_t>(geometry.layers) *
                           static_cast<std::size_t>(shape.query_heads) * candidates.size();
  result_.errors.assign(size, 0);
  result_.attended_keys.assign(size, 0);
}

MatrixView PatternTrial::Queries(const RowBlock& block) const {
  return RowsOf(queries_.First(sequence_.rows.rows), block.row_begin, block.rows);
}

std::size_t PatternTrial::Place(std::size_t head, std::size_t candidate) const {
  const auto heads = static_cast<std::size_t>(shape_.query_heads);
  return (static_cast<std::size_t>(layer_) * heads + head) * candidates_.size() + candidate;
}

void PatternTrial::Select(std::int32_t layer) {
  layer_ = layer;
  selections_.clear();
  const StackedRows& rows = sequence_.rows;
  for (const HeadBudget& candidate : candidates_) {
    if (!Poll(sequence_)) return;
    const std::vector<HeadBudget> all(static_cast<std::size_t>(shape_.query_heads), candidate);
    selections_.push_back(backend_.SelectKeys(
        queries_.First(rows.rows), shape_, geometry_, layer,
        SequenceRows{0, rows.rows, rows.position, sequence_.pages}, all, flex_));
  }
}

void PatternTrial::Compare(const RowBlock& block, const MatrixView& dense) {
  const RowPiece& piece = block.pieces.front();
  for (std::size_t candidate = 0; candidate < selections_.size(); ++candidate) {
    if (!Poll(sequence_)) return;
    backend_.IndexRows(*selections_[candidate], piece.position, piece.rows);
    backend_.SparseAttention(Queries(block), shape_, geometry_, layer_,
                             InBlock(block, piece, sequence_), *selections_[candidate],
                             tried_.First(block.rows));
    backend_.Synchronize();
    AddErrors(candidate, dense);
  }
}

void PatternTrial::AddErrors(std::size_t candidate, const MatrixView& dense) {
  const MatrixView tried = tried_.First(dense.rows);
  for (std::size_t head = 0; head < static_cast<std::size_t>(shape_.query_heads); ++head) {
    double sum = 0;
    for (std::int64_t row = 0; row < dense.rows; ++row) {
      sum += RowError(tried, dense, row, static_cast<std::int64_t>(head) * shape_.head_dim,
                      shape_.head_dim);
    }
    result_.errors[Place(head, candidate)] += sum;
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

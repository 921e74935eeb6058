#include "engine/sparse_chunk.h"

#include <algorithm>

#include "engine/attention_widths.h"
#include "engine/count_keys.h"
#include "engine/head_attention.h"
#include "engine/micros.h"
#include "engine/relative_error.h"
#include "engine/sparse_policy.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

std::int64_t QueryBlocks(std::int64_t rows) { return (rows + kBlockTokens - 1) / kBlockTokens; }

/// Keys that each query block sees, about, over all heads: how long its attention takes.
std::vector<std::int64_t> KeysOfBlocks(const KeySelection& selection) {
  std::vector<std::int64_t> keys(static_cast<std::size_t>(QueryBlocks(selection.rows)), 0);
  for (const HeadSelection& head : selection.heads) {
    const bool lines = head.form == HeadSelection::Form::kLines;
    const std::int64_t of_lines = lines ? static_cast<std::int64_t>(head.columns.size()) +
                                              kBlockTokens * SlashTiles(head.distances)
                                        : 0;
    for (std::size_t block = 0; block < keys.size(); ++block) {
      const std::int64_t causal =
          selection.position + (static_cast<std::int64_t>(block) + 1) * kBlockTokens;
      std::int64_t seen = causal;
      if (lines) seen = of_lines;
      if (head.form == HeadSelection::Form::kBlocks) {
        seen = kBlockTokens * (head.block_offsets[block + 1] - head.block_offsets[block]);
      }
      keys[block] += std::min(seen, causal);
    }
  }
  return keys;
}

}  // namespace

SparseChunk::SparseChunk(Backend& backend, const AttentionShape& shape, const KvGeometry& geometry,
                         DType dtype, const SparseRows& sparse, StackSequence& sequence)
    : backend_(backend),
      shape_(shape),
      geometry_(geometry),
      sparse_(sparse),
      sequence_(sequence),
      queries_(backend, dtype, sequence.rows.rows, QueryWidth(shape)),
      guarded_(backend, dtype, kBlockTokens, shape.head_dim),
      stats_(StatsOfLayers(geometry.layers)) {}

std::span<const HeadBudget> SparseChunk::Budgets(std::int32_t layer) const {
  return LayerBudgets(sparse_.policy, layer, shape_.query_heads);
}

MatrixView SparseChunk::Queries(const RowBlock& block) const {
  return RowsOf(queries_.First(sequence_.rows.rows), block.row_begin, block.rows);
}

std::int64_t SparseChunk::SparseRowsOf(const RowBlock& block) const {
  const std::int64_t position = block.pieces.front().position;
  return std::clamp<std::int64_t>(sparse_.end - position, 0, block.rows);
}

void SparseChunk::Select(std::int32_t layer) {
  const AddMicros timer(stats_.estimate_micros);
  const StackedRows& rows = sequence_.rows;
  layer_ = layer;
  selection_ = backend_.SelectKeys(queries_.First(rows.rows), shape_, geometry_, layer,
                                   SequenceRows{0, rows.rows, rows.position, sequence_.pages},
                                   Budgets(layer), sparse_.policy.flex, sequence_.cancellation);
  block_keys_ = KeysOfBlocks(selection_->ToHost());
  sample_ = SampleForGuard(sparse_.policy.guard_interval, Budgets(layer), rows.position, layer,
                           geometry_.layers, QueryBlocks(sparse_.end - rows.position));
}

std::int64_t SparseChunk::SliceRows(std::int64_t row, std::int64_t rows) const {
  std::int64_t flops = 0;
  for (std::int64_t taken = 0; taken < rows; taken += kBlockTokens) {
    const std::int64_t keys = block_keys_[static_cast<std::size_t>((row + taken) / kBlockTokens)];
    flops += AttentionFlops(shape_.head_dim, std::min(kBlockTokens, rows - taken), keys);
    if (taken > 0 && flops > kSliceFlops) return taken;
  }
  return rows;
}

void SparseChunk::Attend(const RowBlock& block, const MatrixView& out) {
  RowPiece slice = block.pieces.front();
  const std::int64_t row_end = block.row_begin + SparseRowsOf(block);
  for (; slice.row_begin < row_end && Poll(sequence_);
       slice.row_begin += slice.rows, slice.position += slice.rows) {
    slice.rows = SliceRows(slice.position - sequence_.rows.position, row_end - slice.row_begin);
    {
      const AddMicros timer(stats_.index_micros);
      backend_.IndexRows(*selection_, slice.position, slice.rows);
      backend_.Synchronize();
    }
    const AddMicros timer(stats_.attention_micros);
    backend_.SparseAttention(Queries(block), shape_, geometry_, layer_,
                             InBlock(block, slice, sequence_), *selection_, out);
    backend_.Synchronize();
  }
  if (Poll(sequence_)) Guard(block, out);
}

void SparseChunk::Guard(const RowBlock& block, const MatrixView& out) {
  if (!sample_) return;
  const std::int64_t row =
      sample_->block * kBlockTokens - (block.pieces.front().position - sequence_.rows.position);
  const std::int64_t rows = std::min(kBlockTokens, SparseRowsOf(block) - row);
  if (row < 0 || rows <= 0) return;
  const MatrixView dense = guarded_.First(rows);
  const SequenceRows sequence{0, rows, block.pieces.front().position + row, sequence_.pages};
  AttendHead(backend_, RowsOf(Queries(block), row, rows),
             {shape_, geometry_, layer_, sample_->head}, sequence, dense);
  backend_.Synchronize();
  const std::int64_t column = std::int64_t{sample_->head} * shape_.head_dim;
  const double error =
      RelativeError(ColumnsOf(RowsOf(out, row, rows), column, shape_.head_dim), dense);
  stats_.guard_blocks += 1;
  stats_.guard_error_sum += error;
  stats_.guard_error_max = std::max(stats_.guard_error_max, error);
}

void SparseChunk::FinishLayer() {
  CountLayerKeys(layer_, {position(), sparse_.end, position() + rows()}, Budgets(layer_),
                 selection_->AttendedKeys(), stats_);
  selection_.reset();
}

void SparseChunk::CountDenseLayer(std::int32_t layer) {
  CountDenseLayerKeys(layer, position(), position() + rows(), shape_.query_heads, stats_);
}

}  // namespace longshadow

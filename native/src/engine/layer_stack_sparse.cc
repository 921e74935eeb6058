// Layers of a chunk whose rows attend to chosen keys.
#include "engine/layer_stack.h"
#include "engine/micros.h"
#include "engine/sparse_policy.h"

namespace longshadow {

std::int64_t LayerStack::RunSparse(const MatrixView& residual, StackSequence& sequence,
                                   const SparseRows& sparse, const ProgressCallback& progress,
                                   SparseStats& stats) {
  const std::vector<RowBlock> blocks = CutIntoBlocks({&sequence.rows, 1}, block_rows_);
  SparseChunk chunk(backend_, shape_, geometry_, query_.dtype(), sparse, sequence);
  double flops = 0;
  for (std::int32_t layer = 0; layer < geometry_.layers; ++layer) {
    flops += ChoiceFlops(layer, chunk);
    for (const RowBlock& block : blocks) {
      flops += InputFlops(block) + SparseBlockFlops(layer, block, chunk);
    }
  }
  ProgressMeter meter(flops, progress);
  attention_micros_ = 0;
  for (std::int32_t layer = 0; layer < geometry_.layers && !sequence.error; ++layer) {
    Verify(sequence, layer);
    if (AllDense(chunk.Budgets(layer))) {
      RunLayer(layer, blocks, residual, {&sequence, 1}, meter);
      chunk.CountDenseLayer(layer);
    } else {
      RunSparseLayer(layer, blocks, residual, chunk, meter);
    }
  }
  stats = chunk.stats();
  return attention_micros_;
}

void LayerStack::RunSparseLayer(std::int32_t layer, std::span<const RowBlock> blocks,
                                const MatrixView& residual, SparseChunk& chunk,
                                ProgressMeter& meter) {
  const std::span<StackSequence> sequences(&chunk.sequence(), 1);
  for (const RowBlock& block : blocks) {
    if (Stopped(block, sequences)) return;
    AttentionInputs(layer, block, RowsOf(residual, block.row_begin, block.rows), sequences,
                    chunk.Queries(block));
    meter.Done(InputFlops(block));
  }
  if (Stopped(blocks.front(), sequences)) return;
  {
    const AddMicros timer(attention_micros_);
    chunk.Select(layer);
  }
  meter.Done(ChoiceFlops(layer, chunk));
  for (const RowBlock& block : blocks) {
    if (Stopped(block, sequences)) return;
    AttendSparse(layer, block, chunk);
    FinishBlock(layer, block, RowsOf(residual, block.row_begin, block.rows), sequences);
    if (!Poll(chunk.sequence())) return;
    meter.Done(SparseBlockFlops(layer, block, chunk));
  }
  chunk.FinishLayer();
}

void LayerStack::AttendSparse(std::int32_t layer, const RowBlock& block, SparseChunk& chunk) {
  const AddMicros timer(attention_micros_);
  const std::int64_t sparse_rows = chunk.SparseRowsOf(block);
  if (sparse_rows > 0) chunk.Attend(block, attended_.First(block.rows));
  RowPiece rest = block.pieces.front();
  rest.row_begin += sparse_rows;
  rest.position += sparse_rows;
  rest.rows -= sparse_rows;
  AttendInSlices(layer, block, rest, AttentionSliceRows(query_.cols(), rest.position + rest.rows),
                 chunk.sequence(), chunk.Queries(block));
}

double LayerStack::ChoiceFlops(std::int32_t layer, const SparseChunk& chunk) const {
  return SelectionFlops(chunk.Budgets(layer), shape_.head_dim,
                        static_cast<double>(chunk.position() + chunk.rows()));
}

double LayerStack::SparseBlockFlops(std::int32_t layer, const RowBlock& block,
                                    const SparseChunk& chunk) const {
  const std::int64_t position = block.pieces.front().position;
  const std::int64_t sparse_rows = chunk.SparseRowsOf(block);
  const std::int64_t dense_rows = block.rows - sparse_rows;
  return FinishFlops(block) +
         ExpectedAttentionFlops(chunk.Budgets(layer), shape_.head_dim,
                                static_cast<double>(sparse_rows), MeanKeys(position, sparse_rows)) +
         4 * static_cast<double>(query_.cols()) * static_cast<double>(dense_rows) *
             MeanKeys(position + sparse_rows, dense_rows);
}

}  // namespace longshadow

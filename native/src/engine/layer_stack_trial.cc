// Dense layers beside which candidate patterns are tried.
#include "engine/layer_stack.h"
#include "engine/pattern_trial.h"

namespace longshadow {

void LayerStack::RunTrial(const MatrixView& residual, StackSequence& sequence,
                          const TrialRows& rows, const ProgressCallback& progress,
                          PatternTrialResult& result) {
  const std::vector<RowBlock> blocks = CutIntoBlocks({&sequence.rows, 1}, block_rows_);
  PatternTrial trial(backend_, shape_, geometry_, query_.dtype(), rows, sequence, result);
  ProgressMeter meter(static_cast<double>(blocks.size()) * geometry_.layers, progress);
  const std::span<StackSequence> sequences(&sequence, 1);
  for (std::int32_t layer = 0; layer < geometry_.layers && !sequence.error; ++layer) {
    Verify(sequence, layer);
    for (const RowBlock& block : blocks) {
      if (Stopped(block, sequences)) return;
      AttentionInputs(layer, block, RowsOf(residual, block.row_begin, block.rows), sequences,
                      trial.Queries(block));
    }
    trial.Select(layer);
    for (const RowBlock& block : blocks) {
      if (Stopped(block, sequences)) return;
      const RowPiece& piece = block.pieces.front();
      AttendInSlices(layer, block, piece,
                     AttentionSliceRows(query_.cols(), piece.position + piece.rows), sequence,
                     trial.Queries(block));
      trial.Compare(block, attended_.First(block.rows));
      FinishBlock(layer, block, RowsOf(residual, block.row_begin, block.rows), sequences);
      meter.Done(1);
    }
    trial.FinishLayer();
  }
}

}  // namespace longshadow

#include "engine/layer_stack.h"

#include <algorithm>
#include <cmath>

#include "engine/attention_widths.h"
#include "engine/micros.h"

namespace longshadow {
namespace {

AttentionShape ShapeOf(const ModelConfig& config) {
  return {config.query_heads, config.kv_heads, config.head_dim,
          1.0F / std::sqrt(static_cast<float>(config.head_dim))};
}

/// Rows of a block: the layer's widest product stays a short call.
std::int64_t BlockRows(const ModelConfig& config) {
  const std::int64_t width = std::max(QkvWidth(ShapeOf(config)), 2 * std::int64_t{config.ffn_size});
  return RowsOfACall(2 * config.hidden_size * width);
}

/// Polls the block's sequences; false once none is left.
bool AnyAlive(const RowBlock& block, std::span<StackSequence> sequences) {
  std::size_t alive = 0;
  for (const RowPiece& piece : block.pieces) alive += Poll(sequences[piece.sequence]) ? 1 : 0;
  return alive > 0;
}

std::vector<SequenceRows> LiveRows(const RowBlock& block, std::span<StackSequence> sequences) {
  std::vector<SequenceRows> live;
  for (const RowPiece& piece : block.pieces) {
    StackSequence& sequence = sequences[piece.sequence];
    if (Poll(sequence)) live.push_back(InBlock(block, piece, sequence));
  }
  return live;
}

}  // namespace

LayerStack::LayerStack(Backend& backend, const ModelConfig& config, const LlamaWeights& weights,
                       const KvGeometry& geometry, DType compute)
    : backend_(backend),
      config_(config),
      weights_(weights),
      geometry_(geometry),
      shape_(ShapeOf(config)),
      inv_freq_(InverseRopeFrequencies(config)),
      eps_(static_cast<float>(config.rms_norm_eps)),
      block_rows_(BlockRows(config)),
      normed_(backend, compute, block_rows_, config.hidden_size),
      qkv_(backend, DType::kF32, block_rows_, QkvWidth(shape_)),
      query_(backend, compute, block_rows_, QueryWidth(shape_)),
      attended_(backend, compute, block_rows_, QueryWidth(shape_)),
      gate_up_(backend, DType::kF32, block_rows_, 2 * std::int64_t{config.ffn_size}),
      activated_(backend, compute, block_rows_, config.ffn_size) {}

std::int64_t LayerStack::Run(const MatrixView& residual, std::span<StackSequence> sequences,
                             const ProgressCallback& progress) {
  std::vector<StackedRows> stack;
  for (const StackSequence& sequence : sequences) stack.push_back(sequence.rows);
  const std::vector<RowBlock> blocks = CutIntoBlocks(stack, block_rows_);
  double layer_flops = 0;
  for (const RowBlock& block : blocks) layer_flops += BlockFlops(block);
  ProgressMeter meter(layer_flops * geometry_.layers, progress);
  attention_micros_ = 0;
  for (std::int32_t layer = 0; layer < geometry_.layers; ++layer) {
    for (StackSequence& sequence : sequences) Verify(sequence, layer);
    if (!RunLayer(layer, blocks, residual, sequences, meter)) break;
  }
  return attention_micros_;
}

bool LayerStack::RunLayer(std::int32_t layer, std::span<const RowBlock> blocks,
                          const MatrixView& residual, std::span<StackSequence> sequences,
                          ProgressMeter& meter) {
  for (const RowBlock& block : blocks) {
    RunBlock(layer, block, RowsOf(residual, block.row_begin, block.rows), sequences);
    if (std::all_of(sequences.begin(), sequences.end(),
                    [](const StackSequence& sequence) { return sequence.error.has_value(); })) {
      return false;
    }
    meter.Done(BlockFlops(block));
  }
  return true;
}

void LayerStack::RunBlock(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                          std::span<StackSequence> sequences) {
  if (Stopped(block, sequences)) return;
  AttentionInputs(layer, block, residual, sequences, query_.First(block.rows));
  if (Stopped(block, sequences)) return;
  Attend(layer, block, sequences);
  FinishBlock(layer, block, residual, sequences);
}

bool LayerStack::Stopped(const RowBlock& block, std::span<StackSequence> sequences) {
  backend_.Synchronize();  // what is queued does not count as done
  return !AnyAlive(block, sequences);
}

void LayerStack::AttentionInputs(std::int32_t layer, const RowBlock& block,
                                 const MatrixView& residual, std::span<StackSequence> sequences,
                                 const MatrixView& queries) {
  const LayerWeights& weights = weights_.layers[static_cast<std::size_t>(layer)];
  const MatrixView normed = normed_.First(block.rows);
  const MatrixView qkv = qkv_.First(block.rows);
  backend_.RmsNorm(residual, weights.input_norm, eps_, normed);
  backend_.MatMul(normed, *weights.qkv, qkv, /*accumulate=*/false);
  backend_.RopeAndStore(qkv, shape_, RopeTable{inv_freq_, 1.0F}, geometry_, layer,
                        LiveRows(block, sequences), queries);
}

void LayerStack::Attend(std::int32_t layer, const RowBlock& block,
                        std::span<StackSequence> sequences) {
  const AddMicros timer(attention_micros_);
  const auto attend = [&](std::span<const SequenceRows> rows) {
    if (rows.empty()) return;
    backend_.Attention(query_.First(block.rows), shape_, geometry_, layer, rows,
                       attended_.First(block.rows));
    backend_.Synchronize();
  };
  std::vector<SequenceRows> together;
  std::int64_t together_flops = 0;
  for (const RowPiece& piece : block.pieces) {
    StackSequence& sequence = sequences[piece.sequence];
    if (!Poll(sequence)) continue;
    const std::int64_t slice = AttentionSliceRows(QueryWidth(shape_), piece.position + piece.rows);
    if (piece.rows > slice) {
      AttendInSlices(layer, block, piece, slice, sequence, query_.First(block.rows));
    } else {
      together.push_back(InBlock(block, piece, sequence));
      together_flops += AttentionFlops(QueryWidth(shape_), piece.rows, piece.position + piece.rows);
    }
    if (together_flops < kSliceFlops) continue;
    attend(together);
    together.clear();
    together_flops = 0;
  }
  attend(together);
}

void LayerStack::AttendInSlices(std::int32_t layer, const RowBlock& block, const RowPiece& piece,
                                std::int64_t slice_rows, StackSequence& sequence,
                                const MatrixView& queries) {
  for (std::int64_t done = 0; done < piece.rows && Poll(sequence); done += slice_rows) {
    RowPiece slice = piece;
    slice.row_begin += done;
    slice.position += done;
    slice.rows = std::min(slice_rows, piece.rows - done);
    const SequenceRows rows = InBlock(block, slice, sequence);
    backend_.Attention(queries, shape_, geometry_, layer, {&rows, 1}, attended_.First(block.rows));
    backend_.Synchronize();
  }
}

void LayerStack::FinishBlock(std::int32_t layer, const RowBlock& block, const MatrixView& residual,
                             std::span<StackSequence> sequences) {
  const LayerWeights& weights = weights_.layers[static_cast<std::size_t>(layer)];
  if (Stopped(block, sequences)) return;
  backend_.MatMul(attended_.First(block.rows), *weights.output, residual, /*accumulate=*/true);
  if (Stopped(block, sequences)) return;
  GateUp(weights, residual);
  if (Stopped(block, sequences)) return;
  backend_.MatMul(activated_.First(block.rows), *weights.down, residual, /*accumulate=*/true);
}

void LayerStack::GateUp(const LayerWeights& weights, const MatrixView& residual) {
  const MatrixView normed = normed_.First(residual.rows);
  const MatrixView gate_up = gate_up_.First(residual.rows);
  backend_.RmsNorm(residual, weights.post_attention_norm, eps_, normed);
  backend_.MatMul(normed, *weights.gate_up, gate_up, /*accumulate=*/false);
  backend_.SiluMul(gate_up, activated_.First(residual.rows));
}

double LayerStack::InputFlops(const RowBlock& block) const {
  return 2.0 * config_.hidden_size * static_cast<double>(QkvWidth(shape_)) *
         static_cast<double>(block.rows);
}

double LayerStack::FinishFlops(const RowBlock& block) const {
  return 2.0 * config_.hidden_size *
         (static_cast<double>(QueryWidth(shape_)) + 3.0 * config_.ffn_size) *
         static_cast<double>(block.rows);
}

double LayerStack::BlockFlops(const RowBlock& block) const {
  double flops = InputFlops(block) + FinishFlops(block);
  for (const RowPiece& piece : block.pieces) {
    flops += 4 * static_cast<double>(QueryWidth(shape_)) * static_cast<double>(piece.rows) *
             MeanKeys(piece.position, piece.rows);
  }
  return flops;
}

}  // namespace longshadow

#include "engine/logits_head.h"

#include <algorithm>

#include "engine/row_blocks.h"

namespace longshadow {
namespace {

constexpr std::int64_t kMaxLogitBytes = std::int64_t{64} << 20;

std::int64_t TileRows(const ModelConfig& config) {
  const std::int64_t row_bytes = 4 * std::int64_t{config.vocab_size};
  const std::int64_t row_flops = 2 * std::int64_t{config.vocab_size} * config.hidden_size;
  return std::clamp<std::int64_t>(kMaxLogitBytes / row_bytes, 1, RowsOfACall(row_flops));
}

}  // namespace

LogitsHead::LogitsHead(Backend& backend, const ModelConfig& config, const LlamaWeights& weights,
                       DType compute)
    : backend_(backend),
      weights_(weights),
      hidden_(config.hidden_size),
      eps_(static_cast<float>(config.rms_norm_eps)),
      tile_rows_(TileRows(config)),
      normed_(backend, compute, 1, config.hidden_size),
      logits_(backend, DType::kF32, 1, config.vocab_size) {}

void LogitsHead::Run(std::span<const float* const> rows, const TileCallback& tile) {
  const auto total = static_cast<std::int64_t>(rows.size());
  for (std::int64_t first = 0; first < total; first += tile_rows_) {
    const std::int64_t count = std::min(tile_rows_, total - first);
    normed_.Reserve(count);
    logits_.Reserve(count);
    const MatrixView normed = normed_.First(count);
    for (std::int64_t i = 0; i < count; ++i) {
      const ConstMatrixView row(rows[static_cast<std::size_t>(first + i)], DType::kF32, 1, hidden_,
                                hidden_);
      backend_.RmsNorm(row, weights_.final_norm, eps_, RowsOf(normed, i, 1));
    }
    const MatrixView logits = logits_.First(count);
    backend_.MatMul(normed, *weights_.head, logits, /*accumulate=*/false);
    backend_.Synchronize();
    tile(static_cast<std::size_t>(first), logits);
  }
}

}  // namespace longshadow

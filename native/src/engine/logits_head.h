#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "engine/scratch_matrix.h"
#include "longshadow/backend.h"
#include "longshadow/model_config.h"
#include "model/llama_weights.h"

namespace longshadow {

/// Final norm and output head, for the rows whose logits somebody wants and no others.
class LogitsHead {
 public:
  /// All arguments outlive it.
  LogitsHead(Backend& backend, const ModelConfig& config, const LlamaWeights& weights,
             DType compute);

  /// first: index of the tile's first row in `rows`; logits: [tile rows, vocab] f32, readable by
  /// the host, valid until the callback returns.
  using TileCallback = std::function<void(std::size_t first, const MatrixView& logits)>;

  /// rows: residual rows [hidden] f32 anywhere in backend memory. At most 64 MiB of logits exist
  /// at a time (or one row, if that is more), and a tile takes about a tenth of a second: the
  /// callback is the place to poll for cancellation.
  void Run(std::span<const float* const> rows, const TileCallback& tile);

 private:
  Backend& backend_;
  const LlamaWeights& weights_;
  std::int64_t hidden_;
  float eps_;
  std::int64_t tile_rows_;
  ScratchMatrix normed_;  // [tile_rows, hidden], compute dtype
  ScratchMatrix logits_;  // [tile_rows, vocab], f32
};

}  // namespace longshadow

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/layer_stack.h"
#include "engine/logits_head.h"
#include "engine/scratch_matrix.h"
#include "longshadow/backend.h"
#include "longshadow/engine.h"
#include "model/llama_weights.h"
#include "model/weight_files.h"

namespace longshadow {

/// The one Engine. Members are in order of construction: weights lie in the backend's memory, the
/// stack and the head use both.
class EngineImpl final : public Engine {
 public:
  explicit EngineImpl(const EngineOptions& options);

  const EngineInfo& info() const override { return info_; }
  EngineCounters counters() const override;

  PrefillChunkResult PrefillChunk(PrefillSession& session, const PrefillChunkRequest& request,
                                  const ProgressCallback& progress) override;
  PatternTrialResult TryPatterns(PrefillSession& session, const PrefillChunkRequest& request,
                                 const PatternTrialRequest& trial,
                                 const ProgressCallback& progress) override;
  std::vector<DecodeItemResult> DecodeStep(std::span<const DecodeItem> items) override;
  std::vector<float> AppendLogits(DecodeSession& session, std::span<const std::uint32_t> token_ids,
                                  std::span<const std::int64_t> rows) override;

 private:
  /// Throws kInvalidArgument unless every id is below the vocabulary's size.
  void CheckTokenIds(std::span<const std::uint32_t> token_ids) const;
  /// Throws kInvalidArgument unless `rows` more rows after `position` stay within the model.
  void CheckPositions(std::int64_t position, std::size_t rows) const;
  void CheckGeometry(const KvGeometry& geometry) const;
  /// The residual rows of one layer run: [ids.size(), hidden] f32.
  MatrixView EmbedRows(std::span<const std::uint32_t> token_ids);

  void CheckPrefillRequest(const PrefillSession& session, const PrefillChunkRequest& request) const;
  /// Opens the chunk in the session, lets `run` take the residual rows through the layers, and
  /// finishes the segment. On any error the chunk is abandoned.
  SegmentInfo RunChunk(PrefillSession& session, const PrefillChunkRequest& request,
                       const std::function<void(const MatrixView&, StackSequence&)>& run);
  void PrefillLogprobs(const MatrixView& residual, const PrefillChunkRequest& request,
                       const CancellationFlag& cancellation, PrefillChunkResult& result);

  void CheckDecodeItem(const DecodeItem& item) const;
  StackSequence StackItem(const DecodeItem& item, std::vector<std::uint32_t>& token_ids) const;
  void FinishItem(const DecodeItem& item, const StackedRows& rows,
                  const MatrixView& residual) const;
  void DecodeLogits(std::span<const DecodeItem> items, std::span<const StackedRows> item_rows,
                    const MatrixView& residual, std::vector<DecodeItemResult>& results);

  EngineInfo info_;
  WeightFiles files_;
  std::unique_ptr<Backend> backend_;
  LlamaWeights weights_;
  LayerStack layers_;
  LogitsHead head_;
  ScratchMatrix residual_;  // grows to the largest chunk
  std::atomic<std::int64_t> prefill_chunks_{0};
  std::atomic<std::int64_t> prefill_tokens_{0};
  std::atomic<std::int64_t> decode_steps_{0};
  std::atomic<std::int64_t> decode_tokens_{0};
};

}  // namespace longshadow

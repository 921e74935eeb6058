#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "engine/count_keys.h"
#include "engine/engine_impl.h"
#include "engine/pattern_trial.h"
#include "engine/sparse_policy.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

const float* Row(const MatrixView& matrix, std::int64_t row) {
  return static_cast<const float*>(matrix.data) + row * matrix.stride;
}

/// The token that a position holds: of the chunk, or the one after it.
std::uint32_t TokenAt(const PrefillChunkRequest& request, std::int64_t position) {
  const auto index = static_cast<std::size_t>(position - request.begin);
  return index < request.token_ids.size() ? request.token_ids[index] : *request.next_token_id;
}

/// Of a chunk without a sparse row: zeros where it has no policy.
SparseStats DenseStats(const PrefillChunkRequest& request, const EngineInfo& info) {
  SparseStats stats = StatsOfLayers(info.geometry.layers);
  if (request.sparse == nullptr) return stats;
  const std::int64_t end = request.begin + static_cast<std::int64_t>(request.token_ids.size());
  for (std::int32_t layer = 0; layer < info.geometry.layers; ++layer) {
    CountDenseLayerKeys(layer, request.begin, end, info.config.query_heads, stats);
  }
  return stats;
}

}  // namespace

void EngineImpl::CheckPrefillRequest(const PrefillSession& session,
                                     const PrefillChunkRequest& request) const {
  CheckGeometry(session.geometry());
  if (request.token_ids.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a prompt chunk needs at least one token");
  }
  if (request.begin != session.tokens()) {
    throw Error(ErrorCode::kInvalidArgument,
                "the chunk begins at " + std::to_string(request.begin) + " but the session has " +
                    std::to_string(session.tokens()) + " tokens");
  }
  CheckTokenIds(request.token_ids);
  CheckPositions(request.begin, request.token_ids.size());
  if (request.sparse != nullptr) CheckSparsePolicy(*request.sparse, info_);
  if (request.dense_from < request.begin) {
    throw Error(ErrorCode::kInvalidArgument, "dense_from is " + std::to_string(request.dense_from) +
                                                 " but the chunk begins at " +
                                                 std::to_string(request.begin) +
                                                 ": dense rows begin within the chunk or after it");
  }
  if (request.next_token_id) CheckTokenIds({&*request.next_token_id, 1});
  const auto end = request.begin + static_cast<std::int64_t>(request.token_ids.size());
  std::int64_t previous = request.begin;
  for (const std::int64_t position : request.logprob_positions) {
    if (position <= previous || position > end || (position == end && !request.next_token_id)) {
      throw Error(ErrorCode::kInvalidArgument,
                  "logprob_positions must ascend within (begin, end], and the last needs "
                  "next_token_id; got " +
                      std::to_string(position));
    }
    previous = position;
  }
}

SegmentInfo EngineImpl::RunChunk(
    PrefillSession& session, const PrefillChunkRequest& request,
    const std::function<void(const MatrixView&, StackSequence&)>& run) {
  const auto rows = static_cast<std::int64_t>(request.token_ids.size());
  try {
    StackSequence sequence{
        .rows = {0, rows, request.begin},
        .pages = session.BeginChunk(request.begin, request.begin + rows),
        .cancellation = &session.cancellation(),
        .verify_layer = [&session](std::int32_t layer) { session.VerifyLayer(layer); },
        .error = std::nullopt};
    const MatrixView residual = EmbedRows(request.token_ids);
    run(residual, sequence);
    session.cancellation().ThrowIfCancelled();
    backend_->Synchronize();
    return session.FinishChunk({Row(residual, rows - 1), static_cast<std::size_t>(residual.cols)});
  } catch (...) {
    session.AbandonChunk();
    throw;
  }
}

PrefillChunkResult EngineImpl::PrefillChunk(PrefillSession& session,
                                            const PrefillChunkRequest& request,
                                            const ProgressCallback& progress) {
  const auto start = std::chrono::steady_clock::now();
  CheckPrefillRequest(session, request);
  PrefillChunkResult result;
  result.segment =
      RunChunk(session, request, [&](const MatrixView& residual, StackSequence& sequence) {
        const std::int64_t sparse_end = SparseRowsEnd(request);
        if (sparse_end > request.begin) {
          result.attention_micros = layers_.RunSparse(
              residual, sequence, {*request.sparse, sparse_end}, progress, result.sparse);
        } else {
          result.attention_micros = layers_.Run(residual, {&sequence, 1}, progress);
          result.sparse = DenseStats(request, info_);
        }
        if (sequence.error) throw *sequence.error;
        PrefillLogprobs(residual, request, session.cancellation(), result);
      });
  prefill_chunks_ += 1;
  prefill_tokens_ += static_cast<std::int64_t>(request.token_ids.size());
  result.engine_micros = std::chrono::duration_cast<std::chrono::microseconds>(
                             std::chrono::steady_clock::now() - start)
                             .count();
  return result;
}

PatternTrialResult EngineImpl::TryPatterns(PrefillSession& session,
                                           const PrefillChunkRequest& request,
                                           const PatternTrialRequest& trial,
                                           const ProgressCallback& progress) {
  CheckPrefillRequest(session, request);
  CheckTrial(trial, info_);
  if (request.sparse != nullptr || !request.logprob_positions.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "a chunk on which patterns are tried is dense and has no log-probabilities");
  }
  PatternTrialResult result;
  result.segment =
      RunChunk(session, request, [&](const MatrixView& residual, StackSequence& sequence) {
        layers_.RunTrial(residual, sequence, {trial, ChoosingRowsEnd(request)}, progress, result);
        if (sequence.error) throw *sequence.error;
      });
  return result;
}

void EngineImpl::PrefillLogprobs(const MatrixView& residual, const PrefillChunkRequest& request,
                                 const CancellationFlag& cancellation, PrefillChunkResult& result) {
  std::vector<const float*> rows;
  std::vector<std::uint32_t> targets;
  for (const std::int64_t position : request.logprob_positions) {
    rows.push_back(Row(residual, position - 1 - request.begin));
    targets.push_back(TokenAt(request, position));
  }
  result.logprobs.resize(rows.size());
  result.ranks.resize(rows.size());
  head_.Run(rows, [&](std::size_t first, const MatrixView& logits) {
    cancellation.ThrowIfCancelled();
    const auto count = static_cast<std::size_t>(logits.rows);
    backend_->TokenLogprobs(logits, std::span(targets).subspan(first, count),
                            std::span(result.logprobs).subspan(first, count),
                            std::span(result.ranks).subspan(first, count));
    backend_->Synchronize();
  });
  // -inf is a probability of 0, which a token may have; NaN is none.
  if (std::any_of(result.logprobs.begin(), result.logprobs.end(),
                  [](float logprob) { return std::isnan(logprob); })) {
    throw Error(ErrorCode::kInternal, "the model's logits are not numbers");
  }
}

std::vector<float> EngineImpl::AppendLogits(DecodeSession& session,
                                            std::span<const std::uint32_t> token_ids,
                                            std::span<const std::int64_t> rows) {
  CheckGeometry(session.geometry());
  CheckTokenIds(token_ids);
  CheckPositions(session.tokens(), token_ids.size());
  const auto count = static_cast<std::int64_t>(token_ids.size());
  for (const std::int64_t row : rows) {
    if (row < 0 || row >= count) {
      throw Error(ErrorCode::kInvalidArgument, "row " + std::to_string(row) +
                                                   " is not one of the " + std::to_string(count) +
                                                   " tokens of this call");
    }
  }
  if (token_ids.empty()) return {};
  StackSequence sequence{
      .rows = {0, count, session.tokens()},
      .pages = session.Extend(count),
      .cancellation = &session.cancellation(),
      .verify_layer = [&session](std::int32_t layer) { session.VerifyLayer(layer); },
      .error = std::nullopt};
  const MatrixView residual = EmbedRows(token_ids);
  layers_.Run(residual, {&sequence, 1}, {});
  if (sequence.error) throw *sequence.error;
  std::vector<const float*> wanted;
  for (const std::int64_t row : rows) wanted.push_back(Row(residual, row));
  std::vector<float> all;
  all.reserve(rows.size() * static_cast<std::size_t>(info_.config.vocab_size));
  head_.Run(wanted, [&](std::size_t, const MatrixView& logits) {
    session.cancellation().ThrowIfCancelled();
    const auto* data = static_cast<const float*>(logits.data);
    all.insert(all.end(), data, data + logits.rows * logits.cols);
  });
  backend_->Synchronize();
  const float* last = Row(residual, count - 1);
  session.last_hidden().assign(last, last + residual.cols);
  session.Commit(count);
  return all;
}

}  // namespace longshadow

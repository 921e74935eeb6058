#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "engine/engine_impl.h"
#include "longshadow/error.h"
#include "longshadow/sampler.h"

namespace longshadow {
namespace {

// A turn is appended in pieces between steps, so that other sessions do not wait long.
constexpr std::size_t kMaxStepTokens = 256;

const float* Row(const MatrixView& matrix, std::int64_t row) {
  return static_cast<const float*>(matrix.data) + row * matrix.stride;
}

/// A row whose logits a step needs, and what for.
struct LogitRow {
  const float* residual;
  std::size_t item;
  std::size_t target = 0;  // index of logprob_targets; unused when `sampled`
  bool sampled = false;
};

/// Picks the token of a sampled row, or records why it cannot.
std::uint32_t PickToken(std::span<const float> logits, const DecodeItem& item,
                        DecodeItemResult& result) {
  if (item.forced_token) return *item.forced_token;
  try {
    return SampleToken(logits, item.sampling, item.token_index);
  } catch (const Error& error) {
    result.error = error;
    return 0;
  }
}

std::uint32_t TargetOf(const LogitRow& row, std::span<const float> logits, const DecodeItem& item,
                       DecodeItemResult& result) {
  return row.sampled ? PickToken(logits, item, result) : item.logprob_targets[row.target];
}

void Record(const LogitRow& row, std::uint32_t token, float logprob, std::uint32_t rank,
            DecodeItemResult& result) {
  if (result.error) return;
  // -inf is a probability of 0, which a token may have; NaN is none.
  if (std::isnan(logprob)) {
    result.error.emplace(ErrorCode::kInternal, "the model's logits are not numbers");
    return;
  }
  if (!row.sampled) {
    result.target_logprobs[row.target] = logprob;
    result.target_ranks[row.target] = rank;
    return;
  }
  result.token = token;
  result.logprob = logprob;
  result.rank = rank;
}

/// Items that were cancelled get their error: no token of theirs is picked any more.
void PollItems(std::span<const DecodeItem> items, std::vector<DecodeItemResult>& results) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (results[i].error || !items[i].session->cancellation().cancelled()) continue;
    results[i].error.emplace(ErrorCode::kCancelled, "the session was cancelled");
  }
}

/// The row after an item's last token: of this step, or of an earlier one.
const float* LastRow(const DecodeItem& item, const StackedRows& rows, const MatrixView& residual) {
  return rows.rows > 0 ? Row(residual, rows.row_begin + rows.rows - 1)
                       : item.session->last_hidden().data();
}

/// The rows of an item whose logits are wanted, targets first.
void AddLogitRows(const DecodeItem& item, std::size_t index, const StackedRows& rows,
                  const MatrixView& residual, std::vector<LogitRow>& wanted) {
  for (std::size_t i = 0; i < item.logprob_targets.size(); ++i) {
    if (item.logprob_targets[i] == kNoTarget) continue;
    const auto row = rows.row_begin + static_cast<std::int64_t>(i);
    wanted.push_back({Row(residual, row), index, i, false});
  }
  if (item.sample) wanted.push_back({LastRow(item, rows, residual), index, 0, true});
}

}  // namespace

void EngineImpl::CheckDecodeItem(const DecodeItem& item) const {
  CheckGeometry(item.session->geometry());
  item.session->cancellation().ThrowIfCancelled();
  if (item.token_ids.size() > kMaxStepTokens) {
    throw Error(ErrorCode::kInvalidArgument, "a step appends at most " +
                                                 std::to_string(kMaxStepTokens) + " tokens, not " +
                                                 std::to_string(item.token_ids.size()));
  }
  CheckTokenIds(item.token_ids);
  CheckPositions(item.session->tokens(), item.token_ids.size());
  if (!item.logprob_targets.empty() && item.logprob_targets.size() != item.token_ids.size()) {
    throw Error(ErrorCode::kInvalidArgument, "logprob_targets must be one a token, or empty");
  }
  for (const std::uint32_t target : item.logprob_targets) {
    if (target != kNoTarget) CheckTokenIds({&target, 1});
  }
  if (item.forced_token) CheckTokenIds({&*item.forced_token, 1});
  CheckSamplingParameters(item.sampling);
  const auto hidden = static_cast<std::size_t>(info_.config.hidden_size);
  if (item.token_ids.empty() && item.session->last_hidden().size() != hidden) {
    throw Error(ErrorCode::kInvalidArgument,
                "a session without a last hidden row needs tokens before it can be sampled");
  }
}

StackSequence EngineImpl::StackItem(const DecodeItem& item,
                                    std::vector<std::uint32_t>& token_ids) const {
  DecodeSession& session = *item.session;
  const auto count = static_cast<std::int64_t>(item.token_ids.size());
  StackSequence sequence{
      .rows = {static_cast<std::int64_t>(token_ids.size()), count, session.tokens()},
      .pages = session.Extend(count),
      .cancellation = &session.cancellation(),
      .verify_layer = [&session](std::int32_t layer) { session.VerifyLayer(layer); },
      .error = std::nullopt};
  session.last_hidden().reserve(static_cast<std::size_t>(info_.config.hidden_size));
  token_ids.insert(token_ids.end(), item.token_ids.begin(), item.token_ids.end());
  return sequence;
}

/// Nothing here may fail: StackItem made room.
void EngineImpl::FinishItem(const DecodeItem& item, const StackedRows& rows,
                            const MatrixView& residual) const {
  const float* last = LastRow(item, rows, residual);
  item.session->last_hidden().assign(last, last + residual.cols);
  item.session->Commit(rows.rows);
}

std::vector<DecodeItemResult> EngineImpl::DecodeStep(std::span<const DecodeItem> items) {
  std::vector<DecodeItemResult> results(items.size());
  std::vector<std::uint32_t> token_ids;
  std::vector<StackSequence> sequences;
  std::vector<std::size_t> item_of_sequence;
  std::vector<StackedRows> item_rows(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    try {
      for (std::size_t other = 0; other < i; ++other) {
        if (items[other].session == items[i].session) {
          throw Error(ErrorCode::kInvalidArgument, "a session is in the batch twice");
        }
      }
      CheckDecodeItem(items[i]);
      if (items[i].token_ids.empty()) continue;
      sequences.push_back(StackItem(items[i], token_ids));
      item_of_sequence.push_back(i);
      item_rows[i] = sequences.back().rows;
    } catch (const Error& error) {
      results[i].error = error;
    }
  }
  MatrixView residual;
  if (!sequences.empty()) {
    residual = EmbedRows(token_ids);
    layers_.Run(residual, sequences, {});
    backend_->Synchronize();
  }
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    results[item_of_sequence[s]].error = sequences[s].error;
  }
  DecodeLogits(items, item_rows, residual, results);
  // Only now: a session whose step fails, alone or with all others, is as it was before.
  for (const std::size_t i : item_of_sequence) {
    if (!results[i].error) FinishItem(items[i], item_rows[i], residual);
  }
  for (DecodeItemResult& result : results) {
    if (result.error) result.token.reset();
    decode_tokens_ += result.token ? 1 : 0;
  }
  decode_steps_ += 1;
  return results;
}

void EngineImpl::DecodeLogits(std::span<const DecodeItem> items,
                              std::span<const StackedRows> item_rows, const MatrixView& residual,
                              std::vector<DecodeItemResult>& results) {
  std::vector<LogitRow> wanted;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (results[i].error) continue;
    results[i].target_logprobs.assign(items[i].logprob_targets.size(),
                                      std::numeric_limits<float>::quiet_NaN());
    results[i].target_ranks.assign(items[i].logprob_targets.size(), 0);
    AddLogitRows(items[i], i, item_rows[i], residual, wanted);
  }
  std::vector<const float*> rows;
  for (const LogitRow& row : wanted) rows.push_back(row.residual);
  head_.Run(rows, [&](std::size_t first, const MatrixView& logits) {
    PollItems(items, results);
    const auto count = static_cast<std::size_t>(logits.rows);
    std::vector<std::uint32_t> tokens(count);
    std::vector<float> logprobs(count);
    std::vector<std::uint32_t> ranks(count);
    for (std::size_t r = 0; r < count; ++r) {
      const LogitRow& row = wanted[first + r];
      const std::span row_logits(Row(logits, static_cast<std::int64_t>(r)),
                                 static_cast<std::size_t>(logits.cols));
      tokens[r] = TargetOf(row, row_logits, items[row.item], results[row.item]);
    }
    backend_->TokenLogprobs(logits, tokens, logprobs, ranks);
    backend_->Synchronize();
    for (std::size_t r = 0; r < count; ++r) {
      const LogitRow& row = wanted[first + r];
      Record(row, tokens[r], logprobs[r], ranks[r], results[row.item]);
    }
  });
}

}  // namespace longshadow

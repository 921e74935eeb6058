#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "longshadow/cancellation.h"
#include "longshadow/dtype.h"
#include "longshadow/error.h"
#include "longshadow/model_config.h"
#include "longshadow/sampler.h"
#include "longshadow/session_kv.h"
#include "longshadow/sparse_prefill.h"

namespace longshadow {

struct EngineOptions {
  std::string model_directory;            // Hugging Face layout
  std::string device = "cpu";             // "cpu" or "reference"
  DType dtype = DType::kBF16;             // activations of matrix products, and KV storage
  std::int32_t threads = 0;               // 0: one a core
  std::int32_t layer_begin = 0;           // this stage's layers
  std::optional<std::int32_t> layer_end;  // absent: the model's last
  /// Polled for every tensor while the model is packed and checksummed: raised, Open throws
  /// kCancelled. Null: opening cannot be interrupted. Must outlive Open.
  const CancellationFlag* interrupt = nullptr;
};

struct EngineInfo {
  ModelConfig config;
  KvGeometry geometry;  // of this stage
  std::int32_t layer_begin = 0;
  std::int32_t layer_end = 0;
  DType dtype = DType::kBF16;
  std::string device;
  std::string instruction_set;
  std::int64_t parameters = 0;
  std::int64_t weight_file_bytes = 0;
  std::int64_t packed_bytes = 0;
  /// 32 hex digits over config.json and every tensor's name, dtype, shape and CRC32C.
  std::string model_fingerprint;
};

struct PrefillChunkRequest {
  std::span<const std::uint32_t> token_ids;  // positions [begin, begin + size)
  std::int64_t begin = 0;
  /// The prompt's token at begin + size, when it is known and wanted in `logprob_positions`.
  std::optional<std::uint32_t> next_token_id;
  /// Ascending positions p in (begin, begin + size] whose token's log-probability is wanted
  /// (the row at p - 1 predicts it).
  std::span<const std::int64_t> logprob_positions;
  /// Null: dense. Otherwise what CheckSparsePolicy accepts: a chunk that ends after its
  /// dense_below_tokens is sparse in layers of which any head is. Must outlive the call.
  const SparsePolicy* sparse = nullptr;
  /// Rows from this position on are dense, also in a sparse chunk: the prompt's last 128. Rounded
  /// down to a multiple of kBlockTokens; not before `begin`. Of a chunk whose last query block has
  /// no more than 4 rows, these are dense too.
  std::int64_t dense_from = INT64_MAX;
};

struct PrefillChunkResult {
  SegmentInfo segment;
  std::vector<float> logprobs;       // natural log, one a logprob position
  std::vector<std::uint32_t> ranks;  // 1 = top
  std::int64_t engine_micros = 0;    // wall time inside the engine
  std::int64_t attention_micros = 0;
  SparseStats sparse;  // zeros without a policy
};

/// A query head under one of the candidates that are tried.
struct TriedHead {
  std::int32_t layer = 0;  // of the stage
  std::int32_t head = 0;
  std::int64_t candidate = 0;
};

/// Patterns to try on a chunk.
struct PatternTrialRequest {
  std::span<const HeadBudget> candidates;
  FlexOptions flex;
  std::optional<TriedHead> shown;  // whose keys are wanted
};

/// What candidate patterns would do to a chunk, compared with dense attention.
struct PatternTrialResult {
  SegmentInfo segment;
  /// Rows that were compared: the chunk's that would be sparse in serving.
  std::int64_t rows = 0;
  /// [layers][query heads][candidates]: |sparse - dense| / |dense| of a row's attention output, L2
  /// over the head's elements, summed over the compared rows.
  std::vector<double> errors;
  /// As errors: keys that the query blocks attended to, summed (SparseSelection::AttendedKeys).
  std::vector<std::int64_t> attended_keys;
  SparseIndex shown;  // of the compared rows, one head; empty where none was asked for
};

/// One session's part of a decode step.
struct DecodeItem {
  std::shared_ptr<DecodeSession> session;
  /// Tokens to append first: none right after the seal (the last hidden row is there), one in
  /// steady state, up to 256 while a turn is appended.
  std::span<const std::uint32_t> token_ids;
  /// Empty, or [token_ids.size()]: the target that each appended row predicts, for prompt
  /// log-probabilities of a turn; kNoTarget for none.
  std::span<const std::uint32_t> logprob_targets;
  bool sample = true;  // false while more of the turn follows
  SamplingParameters sampling;
  std::uint64_t token_index = 0;              // index of the generated token: randomness
  std::optional<std::uint32_t> forced_token;  // teacher forcing: taken instead of sampling
};
inline constexpr std::uint32_t kNoTarget = 0xffffffffU;

struct DecodeItemResult {
  /// This session's alone: it is as before the step, and the others went on. kInternal when a
  /// log-probability that was wanted is not a number.
  std::optional<Error> error;
  std::optional<std::uint32_t> token;
  float logprob = 0;                   // of `token` under the unmodified distribution, natural log
  std::uint32_t rank = 0;              // of `token`, 1 = top
  std::vector<float> target_logprobs;  // [logprob_targets.size()], NaN for kNoTarget
  std::vector<std::uint32_t> target_ranks;  // 0 for kNoTarget
};

struct EngineCounters {
  std::int64_t prefill_chunks = 0;
  std::int64_t prefill_tokens = 0;
  std::int64_t decode_steps = 0;  // DecodeStep calls: one a step for the whole batch
  std::int64_t decode_tokens = 0;
};

/// Refuses a policy that has not one budget a (layer of the stage, query head) of this engine, or a
/// field out of range. Throws kInvalidArgument that says what to change.
void CheckSparsePolicy(const SparsePolicy& policy, const EngineInfo& info);

/// Called from the engine's thread at least once a layer; share of the chunk's work in [0, 1].
using ProgressCallback = std::function<void(double)>;

/// A model stage on a device. Calls are serialised by the caller (the binding owns one thread an
/// engine); compute runs on the backend's own threads.
class Engine {
 public:
  static std::shared_ptr<Engine> Open(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  virtual EngineCounters counters() const = 0;

  /// Runs one prompt chunk: appends its K and V to the session and finishes the segment. On any
  /// error (kInternal when a wanted log-probability is not a number) the chunk is abandoned and
  /// the session is as before. Polls the session's cancellation between products and slices of
  /// attention.
  virtual PrefillChunkResult PrefillChunk(PrefillSession& session,
                                          const PrefillChunkRequest& request,
                                          const ProgressCallback& progress) = 0;

  /// As PrefillChunk, dense, with each candidate tried for every query head on the side: for
  /// `longshadow patterns`. Rows from request.dense_from on are not compared. request.sparse and
  /// logprob_positions must be unset. kInvalidArgument for wrong budgets or a head that is not
  /// there.
  virtual PatternTrialResult TryPatterns(PrefillSession& session,
                                         const PrefillChunkRequest& request,
                                         const PatternTrialRequest& trial,
                                         const ProgressCallback& progress) = 0;

  /// One step for the whole batch. Results in order of `items`. If it throws, every session is as
  /// before.
  virtual std::vector<DecodeItemResult> DecodeStep(std::span<const DecodeItem> items) = 0;

  /// Appends tokens to a session and returns logits [rows.size(), vocab] f32 of the given rows
  /// (indices into token_ids). For the CLI and tests; serving keeps logits inside.
  virtual std::vector<float> AppendLogits(DecodeSession& session,
                                          std::span<const std::uint32_t> token_ids,
                                          std::span<const std::int64_t> rows) = 0;
};

}  // namespace longshadow

#include "to_js.h"

#include <utility>
#include <vector>

namespace longshadow::binding {

Napi::Object EngineInfoToJs(Napi::Env env, const EngineInfo& info) {
  const ModelConfig& config = info.config;
  Napi::Array eos = Napi::Array::New(env, config.eos_token_ids.size());
  for (std::uint32_t i = 0; i < config.eos_token_ids.size(); ++i) {
    eos.Set(i, NumberToJs(env, config.eos_token_ids[i]));
  }
  Napi::Object js = Napi::Object::New(env);
  js.Set("modelType", config.model_type);
  js.Set("layers", config.layers);
  js.Set("layerBegin", info.layer_begin);
  js.Set("layerEnd", info.layer_end);
  js.Set("hiddenSize", config.hidden_size);
  js.Set("ffnSize", config.ffn_size);
  js.Set("queryHeads", config.query_heads);
  js.Set("kvHeads", config.kv_heads);
  js.Set("headDim", config.head_dim);
  js.Set("vocabSize", config.vocab_size);
  js.Set("maxPositions", NumberToJs(env, config.max_positions));
  js.Set("ropeTheta", config.rope_theta);
  js.Set("tiedEmbeddings", config.tied_embeddings);
  js.Set("bosTokenId", NumberOrNullToJs(env, config.bos_token_id));
  js.Set("eosTokenIds", eos);
  js.Set("device", info.device);
  js.Set("dtype", info.dtype == DType::kBF16 ? "bf16" : "fp32");
  js.Set("instructionSet", info.instruction_set);
  js.Set("parameters", NumberToJs(env, info.parameters));
  js.Set("weightFileBytes", NumberToJs(env, info.weight_file_bytes));
  js.Set("packedBytes", NumberToJs(env, info.packed_bytes));
  js.Set("modelFingerprint", info.model_fingerprint);
  js.Set("kvBytesPerToken", NumberToJs(env, info.geometry.BytesPerToken()));
  return js;
}

Napi::Object EngineCountersToJs(Napi::Env env, const EngineCounters& counters) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("prefillChunks", NumberToJs(env, counters.prefill_chunks));
  js.Set("prefillTokens", NumberToJs(env, counters.prefill_tokens));
  js.Set("decodeSteps", NumberToJs(env, counters.decode_steps));
  js.Set("decodeTokens", NumberToJs(env, counters.decode_tokens));
  return js;
}

Napi::Object ValueStoreStatusToJs(Napi::Env env, const ValueStoreStatus& status) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("fileBytes", NumberToJs(env, status.file_bytes));
  js.Set("files", NumberToJs(env, status.files));
  js.Set("mappings", NumberToJs(env, status.mappings));
  js.Set("mappedBytes", NumberToJs(env, status.mapped_bytes));
  js.Set("privateBytes", NumberToJs(env, status.private_bytes));
  js.Set("freeBytes", NumberToJs(env, status.free_bytes));
  js.Set("capacityBytes", NumberToJs(env, status.capacity_bytes));
  return js;
}

Napi::Object SegmentInfoToJs(Napi::Env env, const SegmentInfo& segment) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("beginToken", NumberToJs(env, segment.begin));
  js.Set("endToken", NumberToJs(env, segment.end));
  js.Set("bytes", NumberToJs(env, segment.bytes));
  return js;
}

namespace {

/// Numbers up to 2^53, as JavaScript has them: no typed array of integers goes beyond 2^32.
Napi::Float64Array CountsToJs(Napi::Env env, std::span<const std::int64_t> counts) {
  const std::vector<double> numbers(counts.begin(), counts.end());
  return TypedArrayToJs<Napi::Float64Array>(env, std::span(numbers));
}

Napi::Object SparseStatsToJs(Napi::Env env, const SparseStats& stats) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("attendedKeys", CountsToJs(env, stats.attended_keys));
  js.Set("causalKeys", CountsToJs(env, stats.causal_keys));
  js.Set("layerAttendedKeys", CountsToJs(env, stats.layer_attended_keys));
  js.Set("layerCausalKeys", CountsToJs(env, stats.layer_causal_keys));
  js.Set("estimateMicros", NumberToJs(env, stats.estimate_micros));
  js.Set("indexMicros", NumberToJs(env, stats.index_micros));
  js.Set("attentionMicros", NumberToJs(env, stats.attention_micros));
  js.Set("guardBlocks", NumberToJs(env, stats.guard_blocks));
  js.Set("guardErrorSum", stats.guard_error_sum);
  js.Set("guardErrorMax", stats.guard_error_max);
  return js;
}

/// The keys of one head's query blocks; null where there is no index.
Napi::Value IndexOrNullToJs(Napi::Env env, const SparseIndex& index) {
  if (index.range_offsets.empty()) return env.Null();
  std::vector<std::uint32_t> ends;
  for (const KeyRange& range : index.ranges) {
    ends.push_back(range.begin);
    ends.push_back(range.end);
  }
  Napi::Object js = Napi::Object::New(env);
  js.Set("beginToken", NumberToJs(env, index.position));
  js.Set("rangeOffsets", CountsToJs(env, index.range_offsets));
  js.Set("ranges", TypedArrayToJs<Napi::Uint32Array>(env, std::span(std::as_const(ends))));
  js.Set("columnOffsets", CountsToJs(env, index.column_offsets));
  js.Set("columns", TypedArrayToJs<Napi::Uint32Array>(env, std::span(index.columns)));
  return js;
}

}  // namespace

Napi::Object PrefillChunkResultToJs(Napi::Env env, const PrefillChunkResult& result) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("segment", SegmentInfoToJs(env, result.segment));
  js.Set("logprobs", TypedArrayToJs<Napi::Float32Array>(env, std::span(result.logprobs)));
  js.Set("ranks", TypedArrayToJs<Napi::Uint32Array>(env, std::span(result.ranks)));
  js.Set("engineMicros", NumberToJs(env, result.engine_micros));
  js.Set("attentionMicros", NumberToJs(env, result.attention_micros));
  js.Set("sparse", SparseStatsToJs(env, result.sparse));
  return js;
}

Napi::Object PatternTrialResultToJs(Napi::Env env, const PatternTrialResult& result) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("segment", SegmentInfoToJs(env, result.segment));
  js.Set("rows", NumberToJs(env, result.rows));
  js.Set("errors", TypedArrayToJs<Napi::Float64Array>(env, std::span(result.errors)));
  js.Set("attendedKeys", CountsToJs(env, result.attended_keys));
  js.Set("shown", IndexOrNullToJs(env, result.shown));
  return js;
}

Napi::Object DecodeItemResultToJs(Napi::Env env, const DecodeItemResult& result) {
  Napi::Object js = Napi::Object::New(env);
  Napi::Value error = env.Null();
  if (result.error) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("code", ErrorCodeName(result.error->code()));
    object.Set("message", result.error->what());
    error = object;
  }
  js.Set("error", error);
  js.Set("tokenId", NumberOrNullToJs(env, result.token));
  js.Set("logprob", result.logprob);
  js.Set("rank", NumberToJs(env, result.rank));
  const bool targets = !result.target_logprobs.empty();
  js.Set("targetLogprobs",
         targets ? TypedArrayToJs<Napi::Float32Array>(env, std::span(result.target_logprobs))
                 : env.Null());
  js.Set("targetRanks", targets
                            ? TypedArrayToJs<Napi::Uint32Array>(env, std::span(result.target_ranks))
                            : env.Null());
  return js;
}

}  // namespace longshadow::binding

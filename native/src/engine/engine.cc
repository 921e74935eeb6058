#include <string>

#include "engine/engine_impl.h"
#include "longshadow/error.h"
#include "model/mapped_file.h"
#include "model/model_fingerprint.h"

namespace longshadow {
namespace {

void CheckLayerRange(const EngineOptions& options, const ModelConfig& config) {
  const std::int32_t end = options.layer_end.value_or(config.layers);
  if (options.layer_begin < 0 || options.layer_begin >= end || end > config.layers) {
    throw Error(ErrorCode::kInvalidArgument,
                "layers [" + std::to_string(options.layer_begin) + ", " + std::to_string(end) +
                    ") are not a range of the model's " + std::to_string(config.layers));
  }
  if (options.layer_begin != 0 || end != config.layers) {
    throw Error(ErrorCode::kUnsupported,
                "a stage of some layers needs the hidden states of the stage before it, which "
                "this engine does not take; open all " +
                    std::to_string(config.layers) + " layers");
  }
}

EngineInfo ReadInfo(const EngineOptions& options) {
  EngineInfo info;
  info.config = ReadModelConfig(options.model_directory);
  CheckLayerRange(options, info.config);
  info.layer_end = info.config.layers;
  info.dtype = options.dtype;
  info.geometry = {info.config.layers, info.config.kv_heads, info.config.head_dim, options.dtype};
  return info;
}

/// The caller's flag, or one that nobody raises.
const CancellationFlag& Interrupt(const EngineOptions& options) {
  static const CancellationFlag never;
  return options.interrupt != nullptr ? *options.interrupt : never;
}

}  // namespace

std::shared_ptr<Engine> Engine::Open(const EngineOptions& options) {
  return std::make_shared<EngineImpl>(options);
}

EngineImpl::EngineImpl(const EngineOptions& options)
    : info_(ReadInfo(options)),
      files_(options.model_directory),
      backend_(MakeBackend(options.device, options.threads)),
      weights_(
          LoadLlamaWeights(files_, info_.config, *backend_, options.dtype, Interrupt(options))),
      layers_(*backend_, info_.config, weights_, info_.geometry, options.dtype),
      head_(*backend_, info_.config, weights_, options.dtype),
      residual_(*backend_, DType::kF32, kRowBlock, info_.config.hidden_size) {
  info_.device = backend_->Name();
  info_.instruction_set = backend_->InstructionSet();
  info_.parameters = weights_.parameters;
  info_.weight_file_bytes = files_.file_bytes();
  info_.packed_bytes = weights_.packed_bytes;
  const MappedFile config_json(options.model_directory + "/config.json");
  info_.model_fingerprint = ModelFingerprint(config_json.bytes(), files_, Interrupt(options));
}

EngineCounters EngineImpl::counters() const {
  return {prefill_chunks_, prefill_tokens_, decode_steps_, decode_tokens_};
}

void EngineImpl::CheckTokenIds(std::span<const std::uint32_t> token_ids) const {
  const auto vocab = static_cast<std::uint32_t>(info_.config.vocab_size);
  for (const std::uint32_t id : token_ids) {
    if (id >= vocab) {
      throw Error(ErrorCode::kInvalidArgument, "token id " + std::to_string(id) +
                                                   " is not below the vocabulary size " +
                                                   std::to_string(vocab));
    }
  }
}

void EngineImpl::CheckPositions(std::int64_t position, std::size_t rows) const {
  const auto count = static_cast<std::int64_t>(rows);
  if (position < 0 || count > info_.config.max_positions - position) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(count) + " tokens from position " + std::to_string(position) +
                    " on pass the model's " + std::to_string(info_.config.max_positions) +
                    " positions");
  }
}

void EngineImpl::CheckGeometry(const KvGeometry& geometry) const {
  const KvGeometry& own = info_.geometry;
  if (geometry.layers != own.layers || geometry.kv_heads != own.kv_heads ||
      geometry.head_dim != own.head_dim || geometry.dtype != own.dtype) {
    throw Error(ErrorCode::kInvalidArgument,
                "the session's KV geometry is not this engine's: open it with the engine's");
  }
}

MatrixView EngineImpl::EmbedRows(std::span<const std::uint32_t> token_ids) {
  const auto rows = static_cast<std::int64_t>(token_ids.size());
  residual_.Reserve(rows);
  const MatrixView residual = residual_.First(rows);
  backend_->Embed(weights_.embedding, token_ids, residual);
  return residual;
}

}  // namespace longshadow

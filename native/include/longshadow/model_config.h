#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longshadow/dtype.h"

namespace longshadow {

/// Llama-3.1's frequency scaling (config "rope_type": "llama3").
struct Llama3RopeScaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  std::int64_t original_max_positions = 8192;
};

/// What a Hugging Face config.json says about a model, checked.
struct ModelConfig {
  std::string model_type;  // "llama"
  std::int32_t layers = 0;
  std::int32_t hidden_size = 0;
  std::int32_t ffn_size = 0;
  std::int32_t query_heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;  // 8..256, a multiple of 8
  std::int32_t vocab_size = 0;
  std::int64_t max_positions = 0;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> rope_scaling;
  /// kBF16: inverse frequencies are rounded to bf16, as they are where a whole PyTorch model was
  /// cast with .to(bfloat16), buffers included. Such a model has other angles; its config.json
  /// says so with "rope_frequency_dtype": "bfloat16" (our key: Hugging Face has none).
  DType rope_frequency_dtype = DType::kF32;
  bool tied_embeddings = false;
  std::optional<std::uint32_t> bos_token_id;
  std::vector<std::uint32_t> eos_token_ids;
};

/// Reads and checks `<directory>/config.json`. Both spellings of rope parameters are read
/// ("rope_theta" + "rope_scaling", and "rope_parameters").
/// Throws kModelInvalid with the field and what it must be; kUnsupported for other architectures.
ModelConfig ReadModelConfig(const std::string& directory);

/// Inverse rope frequencies, [head_dim / 2], scaled and rounded as the config says;
/// f_i = theta^(-2i/D).
std::vector<float> InverseRopeFrequencies(const ModelConfig& config);

}  // namespace longshadow

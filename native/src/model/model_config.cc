#include "longshadow/model_config.h"

#include <algorithm>
#include <cmath>

#include "longshadow/error.h"
#include "model/json_document.h"
#include "model/mapped_file.h"

namespace longshadow {
namespace {

using nlohmann::json;

constexpr int kConfigDepth = 32;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 31;

/// Reads checked fields of one JSON object. A field that is null counts as absent.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const json* Find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  std::int64_t Integer(const char* name, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> fallback = std::nullopt) const {
    const json* field = Find(name);
    if (field == nullptr && fallback) return *fallback;
    const std::string want =
        "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    if (field == nullptr || !field->is_number_integer()) Refuse(name, want);
    const bool too_large = field->is_number_unsigned() &&
                           field->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
    if (too_large) Refuse(name, want);
    const auto value = field->get<std::int64_t>();
    if (value < low || value > high) Refuse(name, want);
    return value;
  }

  std::int32_t Int32(const char* name, std::int32_t low, std::int32_t high,
                     std::optional<std::int32_t> fallback = std::nullopt) const {
    return static_cast<std::int32_t>(Integer(name, low, high, fallback));
  }

  double Number(const char* name, double low, double high,
                std::optional<double> fallback = std::nullopt) const {
    const json* field = Find(name);
    if (field == nullptr && fallback) return *fallback;
    const std::string want = "a number from " + std::to_string(low) + " to " + std::to_string(high);
    if (field == nullptr || !field->is_number()) Refuse(name, want);
    const auto value = field->get<double>();
    if (!(value >= low && value <= high)) Refuse(name, want);
    return value;
  }

  bool Boolean(const char* name, bool fallback) const {
    const json* field = Find(name);
    if (field == nullptr) return fallback;
    if (!field->is_boolean()) Refuse(name, "true or false");
    return field->get<bool>();
  }

  std::string Text(const char* name, const std::string& fallback) const {
    const json* field = Find(name);
    if (field == nullptr) return fallback;
    if (!field->is_string()) Refuse(name, "a string");
    return field->get<std::string>();
  }

  [[noreturn]] void Refuse(const char* name, const std::string& want) const {
    throw Error(ErrorCode::kModelInvalid, where_ + ": " + name + " must be " + want);
  }
  [[noreturn]] void Unsupported(const std::string& problem) const {
    throw Error(ErrorCode::kUnsupported, where_ + ": " + problem);
  }

 private:
  const json& object_;
  std::string where_;
};

void CheckArchitecture(const Fields& fields, const std::string& model_type) {
  if (model_type != "llama") {
    fields.Unsupported("model_type '" + model_type + "' is not served; it must be 'llama'");
  }
  const std::string activation = fields.Text("hidden_act", "silu");
  if (activation != "silu") {
    fields.Unsupported("hidden_act '" + activation + "' is not served; it must be 'silu'");
  }
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (fields.Boolean(bias, false)) fields.Unsupported(std::string(bias) + " is not served");
  }
  if (fields.Number("partial_rotary_factor", 0, 1, 1.0) != 1.0) {
    fields.Unsupported("partial_rotary_factor other than 1 is not served");
  }
  if (fields.Find("quantization_config") != nullptr) {
    fields.Unsupported("quantised weights are not served; use bf16 or fp32 weights");
  }
}

/// Ids of end tokens: a number, a list of numbers, or absent.
void AddTokenIds(const Fields& fields, const char* name, std::int32_t vocab_size,
                 std::vector<std::uint32_t>& ids) {
  const json* field = fields.Find(name);
  if (field == nullptr) return;
  const std::string want = "a token id below vocab_size, or a list of them";
  const json list = field->is_array() ? *field : json::array({*field});
  for (const json& element : list) {
    if (!element.is_number_unsigned()) fields.Refuse(name, want);
    const auto id = element.get<std::uint64_t>();
    if (id >= static_cast<std::uint64_t>(vocab_size)) fields.Refuse(name, want);
    const auto small_id = static_cast<std::uint32_t>(id);
    if (std::find(ids.begin(), ids.end(), small_id) == ids.end()) ids.push_back(small_id);
  }
}

std::optional<Llama3RopeScaling> ReadRopeScaling(const Fields& rope) {
  // "type" is the spelling of older files.
  const std::string type = rope.Text("rope_type", rope.Text("type", "default"));
  if (type == "default") return std::nullopt;
  if (type != "llama3") {
    rope.Unsupported("rope type '" + type + "' is not served; it must be 'default' or 'llama3'");
  }
  Llama3RopeScaling scaling;
  scaling.factor = rope.Number("factor", 1, 1e6);
  scaling.low_freq_factor = rope.Number("low_freq_factor", 1e-3, 1e6);
  scaling.high_freq_factor = rope.Number("high_freq_factor", 1e-3, 1e6);
  scaling.original_max_positions =
      rope.Integer("original_max_position_embeddings", 1, kMaxPositions);
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    rope.Refuse("high_freq_factor", "greater than low_freq_factor");
  }
  return scaling;
}

DType ReadFrequencyType(const Fields& fields) {
  const std::string name = fields.Text("rope_frequency_dtype", "float32");
  if (name == "float32") return DType::kF32;
  if (name == "bfloat16") return DType::kBF16;
  fields.Refuse("rope_frequency_dtype", "'float32' or 'bfloat16'");
}

/// Newer files keep everything in `rope_parameters`; older ones have `rope_theta` beside
/// `rope_scaling`.
void ReadRope(const json& document, const std::string& where, ModelConfig& config) {
  const Fields fields(document, where);
  config.rope_frequency_dtype = ReadFrequencyType(fields);
  config.rope_theta = fields.Number("rope_theta", 1, 1e15, 10000.0);
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const json* object = fields.Find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) fields.Refuse(name, "an object");
    const Fields rope(*object, where + ": " + name);
    config.rope_theta = rope.Number("rope_theta", 1, 1e15, config.rope_theta);
    config.rope_scaling = ReadRopeScaling(rope);
  }
}

void ReadShape(const Fields& fields, ModelConfig& config) {
  config.layers = fields.Int32("num_hidden_layers", 1, 1024);
  config.hidden_size = fields.Int32("hidden_size", 1, 1 << 16);
  config.ffn_size = fields.Int32("intermediate_size", 1, 1 << 20);
  config.query_heads = fields.Int32("num_attention_heads", 1, 1024);
  config.kv_heads = fields.Int32("num_key_value_heads", 1, config.query_heads, config.query_heads);
  if (config.query_heads % config.kv_heads != 0) {
    fields.Refuse("num_key_value_heads", "a divisor of num_attention_heads");
  }
  if (fields.Find("head_dim") == nullptr && config.hidden_size % config.query_heads != 0) {
    fields.Refuse("hidden_size", "a multiple of num_attention_heads, or head_dim be given");
  }
  config.head_dim = fields.Int32("head_dim", 1, 1 << 16, config.hidden_size / config.query_heads);
  if (config.head_dim < 8 || config.head_dim > 256 || config.head_dim % 8 != 0) {
    fields.Refuse("head_dim", "a multiple of 8 from 8 to 256");
  }
  config.vocab_size = fields.Int32("vocab_size", 1, 1 << 24);
  config.max_positions = fields.Integer("max_position_embeddings", 1, kMaxPositions, 2048);
  config.rms_norm_eps = fields.Number("rms_norm_eps", 1e-12, 0.1, 1e-6);
}

}  // namespace

ModelConfig ReadModelConfig(const std::string& directory) {
  const std::string path = directory + "/config.json";
  const json document = ReadJsonObject(path, kConfigDepth);
  const Fields fields(document, path);
  ModelConfig config;
  config.model_type = fields.Text("model_type", "");
  CheckArchitecture(fields, config.model_type);
  ReadShape(fields, config);
  ReadRope(document, path, config);
  config.tied_embeddings = fields.Boolean("tie_word_embeddings", false);
  if (fields.Find("bos_token_id") != nullptr) {
    config.bos_token_id =
        static_cast<std::uint32_t>(fields.Integer("bos_token_id", 0, config.vocab_size - 1));
  }
  AddTokenIds(fields, "eos_token_id", config.vocab_size, config.eos_token_ids);
  const std::string generation_path = directory + "/generation_config.json";
  if (FileExists(generation_path)) {
    const json generation = ReadJsonObject(generation_path, kConfigDepth);
    AddTokenIds(Fields(generation, generation_path), "eos_token_id", config.vocab_size,
                config.eos_token_ids);
  }
  return config;
}

}  // namespace longshadow

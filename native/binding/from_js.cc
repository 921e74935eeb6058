#include "from_js.h"

#include <algorithm>
#include <cmath>

namespace longshadow::binding {
namespace {

template <typename Array>
Array TypedArrayFromJs(const Napi::Value& value, napi_typedarray_type type, const char* name,
                       const char* type_name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    RefuseArgument(std::string(name) + " must be a " + type_name);
  }
  return value.As<Array>();
}

/// The value of a hex digit; -1 for another character.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

Fingerprint FingerprintFromJs(const Napi::Value& value, const char* name) {
  const std::string text = StringFromJs(value, name);
  Fingerprint fingerprint{};
  const auto is_digit = [](char c) { return HexDigit(c) >= 0; };
  if (text.size() != 2 * fingerprint.size() || !std::all_of(text.begin(), text.end(), is_digit)) {
    RefuseArgument(std::string(name) + " must be 32 lower-case hex digits");
  }
  for (std::size_t i = 0; i < fingerprint.size(); ++i) {
    fingerprint[i] =
        static_cast<std::uint8_t>(HexDigit(text[2 * i]) * 16 + HexDigit(text[2 * i + 1]));
  }
  return fingerprint;
}

DType DTypeFromJs(const Napi::Value& value) {
  const std::string name = StringFromJs(value, "dtype");
  if (name == "bf16") return DType::kBF16;
  if (name == "fp32") return DType::kF32;
  RefuseArgument("dtype must be 'bf16' or 'fp32', got '" + name + "'");
}

}  // namespace

Napi::Object ObjectFromJs(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) RefuseArgument(std::string(name) + " must be an object");
  return value.As<Napi::Object>();
}

Napi::Function FunctionFromJs(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) RefuseArgument(std::string(name) + " must be a function");
  return value.As<Napi::Function>();
}

std::string StringFromJs(const Napi::Value& value, const char* name) {
  if (!value.IsString()) RefuseArgument(std::string(name) + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

bool BoolFromJs(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) RefuseArgument(std::string(name) + " must be a boolean");
  return value.As<Napi::Boolean>().Value();
}

float FloatFromJs(const Napi::Value& value, const char* name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!std::isfinite(number)) RefuseArgument(std::string(name) + " must be a finite number");
  return static_cast<float>(number);
}

std::int64_t IntegerFromJs(const Napi::Value& value, const char* name, std::int64_t least,
                           std::int64_t most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) ||
      number != std::floor(number)) {
    RefuseArgument(std::string(name) + " must be an integer in [" + std::to_string(least) + ", " +
                   std::to_string(most) + "]");
  }
  return static_cast<std::int64_t>(number);
}

std::uint64_t BigIntFromJs(const Napi::Value& value, const char* name) {
  bool lossless = false;
  const std::uint64_t number =
      value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) RefuseArgument(std::string(name) + " must be a bigint in [0, 2^64)");
  return number;
}

std::optional<std::uint32_t> Uint32OrNullFromJs(const Napi::Value& value, const char* name) {
  if (value.IsNull()) return std::nullopt;
  return Uint32FromJs(value, name);
}

std::span<const std::uint32_t> Uint32ViewFromJs(const Napi::Value& value, const char* name) {
  const auto array =
      TypedArrayFromJs<Napi::Uint32Array>(value, napi_uint32_array, name, "Uint32Array");
  return {array.Data(), array.ElementLength()};
}

std::span<const std::uint8_t> ByteViewFromJs(const Napi::Value& value, const char* name) {
  const auto array =
      TypedArrayFromJs<Napi::Uint8Array>(value, napi_uint8_array, name, "Uint8Array");
  return {array.Data(), array.ElementLength()};
}

std::vector<std::int64_t> PositionsFromJs(const Napi::Value& value, const char* name) {
  const auto array =
      TypedArrayFromJs<Napi::Float64Array>(value, napi_float64_array, name, "Float64Array");
  std::vector<std::int64_t> positions;
  positions.reserve(array.ElementLength());
  for (const double number : std::span(array.Data(), array.ElementLength())) {
    if (!(number >= 0 && number <= static_cast<double>(kMaxSafeInteger)) ||
        number != std::floor(number)) {
      RefuseArgument(std::string(name) + " must hold integers that are not negative");
    }
    positions.push_back(static_cast<std::int64_t>(number));
  }
  return positions;
}

EngineOptions EngineOptionsFromJs(const Napi::Value& value) {
  const Napi::Object js = ObjectFromJs(value, "options");
  EngineOptions options;
  options.model_directory = StringFromJs(js.Get("modelDirectory"), "modelDirectory");
  options.device = StringFromJs(js.Get("device"), "device");
  options.dtype = DTypeFromJs(js.Get("dtype"));
  options.threads = Int32FromJs(js.Get("threads"), "threads");
  options.layer_begin = Int32FromJs(js.Get("layerBegin"), "layerBegin");
  const Napi::Value layer_end = js.Get("layerEnd");
  if (!layer_end.IsNull()) options.layer_end = Int32FromJs(layer_end, "layerEnd");
  return options;
}

SessionKey SessionKeyFromJs(const Napi::Value& value, std::int32_t layer_begin) {
  const Napi::Object js = ObjectFromJs(value, "key");
  SessionKey key;
  key.session_id = StringFromJs(js.Get("sessionId"), "sessionId");
  key.epoch = Uint32FromJs(js.Get("epoch"), "epoch");
  key.stage = Uint32FromJs(js.Get("stage"), "stage");
  key.layer_begin = layer_begin;
  key.fingerprint = FingerprintFromJs(js.Get("fingerprint"), "fingerprint");
  return key;
}

std::vector<SegmentOrigin> OriginsFromJs(const Napi::Value& key) {
  const Napi::Value value = ObjectFromJs(key, "key").Get("origins");
  if (!value.IsArray()) RefuseArgument("origins must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<SegmentOrigin> origins;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object js = ObjectFromJs(array.Get(i), "origins[]");
    origins.push_back(
        {IntegerFromJs(js.Get("beginToken"), "origins[].beginToken", 0, kMaxSafeInteger),
         IntegerFromJs(js.Get("endToken"), "origins[].endToken", 0, kMaxSafeInteger),
         FingerprintFromJs(js.Get("fingerprint"), "origins[].fingerprint")});
  }
  return origins;
}

std::vector<HeadBudget> BudgetsFromJs(const Napi::Value& value, const char* name) {
  const std::vector<std::int64_t> fields = PositionsFromJs(value, name);
  if (fields.size() % 4 != 0) {
    RefuseArgument(std::string(name) +
                   " must hold 4 numbers a budget (pattern, columns, distances, tiles), got " +
                   std::to_string(fields.size()) + " numbers");
  }
  std::vector<HeadBudget> budgets;
  for (std::size_t i = 0; i < fields.size(); i += 4) {
    if (fields[i] >= kHeadPatterns) {
      RefuseArgument(std::string(name) + "[" + std::to_string(i) + "] must be a pattern in [0, " +
                     std::to_string(kHeadPatterns - 1) + "], got " + std::to_string(fields[i]));
    }
    budgets.push_back(
        {static_cast<HeadPattern>(fields[i]), fields[i + 1], fields[i + 2], fields[i + 3]});
  }
  return budgets;
}

std::shared_ptr<const SparsePolicy> SparsePolicyFromJs(const Napi::Value& value,
                                                       const EngineInfo& engine) {
  if (value.IsNull()) return nullptr;
  const Napi::Object js = ObjectFromJs(value, "sparse");
  auto policy = std::make_shared<SparsePolicy>();
  policy->dense_below_tokens =
      IntegerFromJs(js.Get("denseBelowTokens"), "sparse.denseBelowTokens", 0, kMaxSafeInteger);
  policy->heads = BudgetsFromJs(js.Get("budgets"), "sparse.budgets");
  policy->flex.gamma = FloatFromJs(js.Get("gamma"), "sparse.gamma");
  policy->flex.tau = FloatFromJs(js.Get("tau"), "sparse.tau");
  policy->flex.min_tiles = IntegerFromJs(js.Get("minTiles"), "sparse.minTiles", 0, kMaxSafeInteger);
  policy->guard_interval = Int32FromJs(js.Get("guardInterval"), "sparse.guardInterval");
  CheckSparsePolicy(*policy, engine);
  return policy;
}

SamplingParameters SamplingParametersFromJs(const Napi::Value& value) {
  const Napi::Object js = ObjectFromJs(value, "sampling");
  SamplingParameters parameters;
  parameters.temperature = FloatFromJs(js.Get("temperature"), "temperature");
  parameters.top_k = Int32FromJs(js.Get("topK"), "topK");
  parameters.top_p = FloatFromJs(js.Get("topP"), "topP");
  parameters.seed = BigIntFromJs(js.Get("seed"), "seed");
  return parameters;
}

}  // namespace longshadow::binding

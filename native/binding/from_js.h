#pragma once

#include <napi.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "longshadow/engine.h"
#include "longshadow/error.h"
#include "longshadow/session_kv.h"

namespace longshadow::binding {

inline constexpr std::int64_t kMaxSafeInteger = (std::int64_t{1} << 53) - 1;

[[noreturn]] inline void RefuseArgument(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

/// Conversions of arguments. Each throws kInvalidArgument that names the field; nothing has a
/// default, so a misspelt field is found at once.
Napi::Object ObjectFromJs(const Napi::Value& value, const char* name);
Napi::Function FunctionFromJs(const Napi::Value& value, const char* name);
std::string StringFromJs(const Napi::Value& value, const char* name);
bool BoolFromJs(const Napi::Value& value, const char* name);
float FloatFromJs(const Napi::Value& value, const char* name);
std::int64_t IntegerFromJs(const Napi::Value& value, const char* name, std::int64_t least,
                           std::int64_t most);
std::uint64_t BigIntFromJs(const Napi::Value& value, const char* name);

inline std::int32_t Int32FromJs(const Napi::Value& value, const char* name) {
  return static_cast<std::int32_t>(
      IntegerFromJs(value, name, 0, std::numeric_limits<std::int32_t>::max()));
}
inline std::uint32_t Uint32FromJs(const Napi::Value& value, const char* name) {
  return static_cast<std::uint32_t>(
      IntegerFromJs(value, name, 0, std::numeric_limits<std::uint32_t>::max()));
}
std::optional<std::uint32_t> Uint32OrNullFromJs(const Napi::Value& value, const char* name);

/// Views of typed arrays: the array must be kept alive, and unchanged, while the view is used.
std::span<const std::uint32_t> Uint32ViewFromJs(const Napi::Value& value, const char* name);
std::span<const std::uint8_t> ByteViewFromJs(const Napi::Value& value, const char* name);
/// A Float64Array of integers, copied: JavaScript has no other typed array beyond 2^32.
std::vector<std::int64_t> PositionsFromJs(const Napi::Value& value, const char* name);

EngineOptions EngineOptionsFromJs(const Napi::Value& value);
/// layer_begin is the engine's; JavaScript does not pass it.
SessionKey SessionKeyFromJs(const Napi::Value& value, std::int32_t layer_begin);
/// The `origins` of a session key.
std::vector<SegmentOrigin> OriginsFromJs(const Napi::Value& key);
/// A Float64Array [budgets][4]: pattern, columns, distances, tiles.
std::vector<HeadBudget> BudgetsFromJs(const Napi::Value& value, const char* name);
/// Null for null. Checked against the engine that will run it.
std::shared_ptr<const SparsePolicy> SparsePolicyFromJs(const Napi::Value& value,
                                                       const EngineInfo& engine);
SamplingParameters SamplingParametersFromJs(const Napi::Value& value);

}  // namespace longshadow::binding

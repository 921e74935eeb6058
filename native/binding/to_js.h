#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "longshadow/engine.h"
#include "longshadow/error.h"
#include "longshadow/value_store.h"

namespace longshadow::binding {

/// An Error object with `code`.
inline Napi::Error ErrorToJs(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", Napi::String::New(env, ErrorCodeName(error.code())));
  return js;
}

inline Napi::Value NumberToJs(Napi::Env env, std::int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

inline Napi::Value NumberOrNullToJs(Napi::Env env, std::optional<std::uint32_t> value) {
  return value ? NumberToJs(env, *value) : env.Null();
}

/// A typed array of its own with a copy of the elements.
template <typename Array, typename Element>
Array TypedArrayToJs(Napi::Env env, std::span<const Element> elements) {
  Array array = Array::New(env, elements.size());
  if (!elements.empty()) std::memcpy(array.Data(), elements.data(), elements.size_bytes());
  return array;
}

Napi::Object EngineInfoToJs(Napi::Env env, const EngineInfo& info);
Napi::Object EngineCountersToJs(Napi::Env env, const EngineCounters& counters);
Napi::Object ValueStoreStatusToJs(Napi::Env env, const ValueStoreStatus& status);
Napi::Object SegmentInfoToJs(Napi::Env env, const SegmentInfo& segment);
Napi::Object PrefillChunkResultToJs(Napi::Env env, const PrefillChunkResult& result);
Napi::Object PatternTrialResultToJs(Napi::Env env, const PatternTrialResult& result);
Napi::Object DecodeItemResultToJs(Napi::Env env, const DecodeItemResult& result);

}  // namespace longshadow::binding

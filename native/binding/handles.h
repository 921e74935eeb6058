#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "from_js.h"
#include "states.h"

namespace longshadow::binding {

/// The tag and the `type` of the handles of a state. Tags are random 128-bit numbers.
template <typename State>
struct HandleTraits;

template <>
struct HandleTraits<EngineState> {
  static constexpr napi_type_tag kTag = {0x6c2f1b7e90d34a58, 0x91b64e0f2d7c83a5};
  static constexpr const char* kType = "engine";
};
template <>
struct HandleTraits<StoreState> {
  static constexpr napi_type_tag kTag = {0x3e85d0c74fa9126b, 0xb8d7316a5e0c94f2};
  static constexpr const char* kType = "value-store";
};
template <>
struct HandleTraits<PrefillState> {
  static constexpr napi_type_tag kTag = {0xd41a7f62c39be805, 0x8f5ce2079a1b3d64};
  static constexpr const char* kType = "prefill-session";
};
template <>
struct HandleTraits<DecodeState> {
  static constexpr napi_type_tag kTag = {0x7ab9043d61e8f25c, 0xa6203fd8c74b195e};
  static constexpr const char* kType = "decode-session";
};

/// An object that owns a share of the state and frees it when it is collected.
template <typename State>
Napi::Object HandleToJs(Napi::Env env, std::shared_ptr<State> state) {
  Napi::Object handle = Napi::Object::New(env);
  handle.DefineProperty(Napi::PropertyDescriptor::Value(
      "type", Napi::String::New(env, HandleTraits<State>::kType), napi_enumerable));
  handle.TypeTag(&HandleTraits<State>::kTag);
  auto owned = std::make_unique<std::shared_ptr<State>>(std::move(state));
  const napi_finalize finalize = [](napi_env, void* data, void*) {
    delete static_cast<std::shared_ptr<State>*>(data);
  };
  if (napi_wrap(env, handle, owned.get(), finalize, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(env);
  }
  owned.release();
  return handle;
}

/// Throws kInvalidArgument for anything but a handle of this state.
template <typename State>
std::shared_ptr<State> HandleFromJs(const Napi::Value& value) {
  void* data = nullptr;
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&HandleTraits<State>::kTag) ||
      napi_unwrap(value.Env(), value, &data) != napi_ok) {
    RefuseArgument(std::string("expected a handle of type '") + HandleTraits<State>::kType + "'");
  }
  return *static_cast<std::shared_ptr<State>*>(data);
}

}  // namespace longshadow::binding

#pragma once

#include <napi.h>

#include <exception>

#include "environment.h"
#include "longshadow/error.h"
#include "to_js.h"

namespace longshadow::binding {

using Method = Napi::Value (*)(const Napi::CallbackInfo& info);

/// A function that answers at once: an Error becomes a JavaScript exception with `code`; what the
/// standard library throws (no memory, no thread) is INTERNAL.
template <Method method>
Napi::Value Synchronous(const Napi::CallbackInfo& info) {
  try {
    return method(info);
  } catch (const Error& error) {
    throw ErrorToJs(info.Env(), error);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw ErrorToJs(info.Env(), Error(ErrorCode::kInternal, error.what()));
  }
}

/// A function that answers with a promise: whatever goes wrong before the work is queued rejects.
template <Method method>
Napi::Value Asynchronous(const Napi::CallbackInfo& info) {
  const auto reject = [&](const Napi::Value& reason) -> Napi::Value {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Reject(reason);
    return deferred.Promise();
  };
  try {
    return method(info);
  } catch (const Error& error) {
    return reject(ErrorToJs(info.Env(), error).Value());
  } catch (const Napi::Error& error) {
    return reject(error.Value());
  } catch (const std::exception& error) {
    return reject(ErrorToJs(info.Env(), Error(ErrorCode::kInternal, error.what())).Value());
  }
}

template <Method method>
void Export(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New(exports.Env(), method, name));
}

void ExportEngine(Napi::Object exports);
void ExportValueStore(Napi::Object exports);
void ExportPrefill(Napi::Object exports);
void ExportDecode(Napi::Object exports);

}  // namespace longshadow::binding

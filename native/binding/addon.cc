// The add-on's entry. Names and order of the exports match native/ts/addon.ts.

#include <napi.h>

#include "call.h"
#include "environment.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  longshadow::binding::Environment::Create(env);
  longshadow::binding::ExportEngine(exports);
  longshadow::binding::ExportValueStore(exports);
  longshadow::binding::ExportPrefill(exports);
  longshadow::binding::ExportDecode(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(addon, Init)

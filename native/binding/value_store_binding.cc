// N-API binding of the value store: directory operations that answer at once.

#include <napi.h>

#include <memory>

#include "call.h"
#include "from_js.h"
#include "handles.h"
#include "to_js.h"

namespace longshadow::binding {
namespace {

/// openValueStore(directory): ValueStoreHandle
Napi::Value OpenValueStore(const Napi::CallbackInfo& info) {
  auto store = ValueStore::Open(StringFromJs(info[0], "directory"));
  return HandleToJs(info.Env(), std::make_shared<StoreState>(StoreState{std::move(store)}));
}

/// valueStoreStatus(store): ValueStoreStatus
Napi::Value GetValueStoreStatus(const Napi::CallbackInfo& info) {
  return ValueStoreStatusToJs(info.Env(), HandleFromJs<StoreState>(info[0])->store->Status());
}

/// valueStoreFreeBytes(store): number
Napi::Value GetValueStoreFreeBytes(const Napi::CallbackInfo& info) {
  return NumberToJs(info.Env(), HandleFromJs<StoreState>(info[0])->store->FreeBytes());
}

/// removeSessionFiles(store, sessionId): void
Napi::Value RemoveSessionFiles(const Napi::CallbackInfo& info) {
  HandleFromJs<StoreState>(info[0])->store->RemoveSession(StringFromJs(info[1], "sessionId"));
  return info.Env().Undefined();
}

}  // namespace

void ExportValueStore(Napi::Object exports) {
  Export<Synchronous<OpenValueStore>>(exports, "openValueStore");
  Export<Synchronous<GetValueStoreStatus>>(exports, "valueStoreStatus");
  Export<Synchronous<GetValueStoreFreeBytes>>(exports, "valueStoreFreeBytes");
  Export<Synchronous<RemoveSessionFiles>>(exports, "removeSessionFiles");
}

}  // namespace longshadow::binding

// N-API binding of decode. Converts, queues, converts back; computes nothing.

#include <napi.h>

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "call.h"
#include "from_js.h"
#include "handles.h"
#include "job.h"
#include "to_js.h"

namespace longshadow::binding {
namespace {

class OpenDecodeSessionJob final : public Job {
 public:
  OpenDecodeSessionJob(Napi::Env env, std::shared_ptr<EngineState> engine,
                       std::shared_ptr<ValueStore> store, SessionKey key,
                       std::span<const std::uint8_t> hand_off, const Napi::Object& js_hand_off)
      : Job(engine->environment(), env),
        engine_(std::move(engine)),
        store_(std::move(store)),
        key_(std::move(key)),
        hand_off_(hand_off) {
    Keep(js_hand_off);
  }

 private:
  void Execute() override {
    const EngineInfo& info = engine_->info();
    session_ = DecodeSession::Open(store_, hand_off_, key_, info.geometry, info.config.hidden_size);
  }
  Napi::Value Result(Napi::Env env) override {
    return HandleToJs(env, std::make_shared<DecodeState>(engine_, std::move(session_)));
  }

  std::shared_ptr<EngineState> engine_;
  std::shared_ptr<ValueStore> store_;
  SessionKey key_;
  std::span<const std::uint8_t> hand_off_;
  std::shared_ptr<DecodeSession> session_;
};

/// openDecodeSession(engine, store, key, handOff): Promise<DecodeSessionHandle>
/// On the file thread: a step of other sessions does not wait for it.
Napi::Value OpenDecodeSession(const Napi::CallbackInfo& info) {
  const auto engine = HandleFromJs<EngineState>(info[0]);
  const auto store = HandleFromJs<StoreState>(info[1]);
  SessionKey key = SessionKeyFromJs(info[2], engine->info().layer_begin);
  if (!OriginsFromJs(info[2]).empty()) {
    RefuseArgument("origins must be empty for decode: the hand-off names them");
  }
  const std::span<const std::uint8_t> hand_off = ByteViewFromJs(info[3], "handOff");
  static_cast<void>(engine->engine());  // refuses a closed one
  JobThread& thread = engine->environment()->FileThread();
  return Queue(thread, std::make_unique<OpenDecodeSessionJob>(info.Env(), engine, store->store,
                                                              std::move(key), hand_off,
                                                              info[3].As<Napi::Object>()));
}

/// openScratchSession(engine): DecodeSessionHandle
Napi::Value OpenScratchSession(const Napi::CallbackInfo& info) {
  const auto engine = HandleFromJs<EngineState>(info[0]);
  static_cast<void>(engine->engine());  // refuses a closed one
  auto session = DecodeSession::OpenScratch(engine->info().geometry);
  return HandleToJs(info.Env(), std::make_shared<DecodeState>(engine, std::move(session)));
}

/// One item of a step. Token ids are few and copied.
struct StepItem {
  std::optional<SessionCall<DecodeState>> call;  // absent: `error` says why the item is left out
  std::optional<Error> error;
  std::vector<std::uint32_t> token_ids;
  std::vector<std::uint32_t> logprob_targets;
  DecodeItem native;
  DecodeSize size;  // after the step
};

/// The item's fields. A closed session, or one of another engine, is the item's own error.
StepItem StepItemFromJs(const Napi::Value& value, const EngineState& engine) {
  const Napi::Object js = ObjectFromJs(value, "item");
  StepItem item;
  const auto state = HandleFromJs<DecodeState>(js.Get("session"));
  item.native.sample = BoolFromJs(js.Get("sample"), "sample");
  item.native.sampling = SamplingParametersFromJs(js.Get("sampling"));
  item.native.token_index = static_cast<std::uint64_t>(
      IntegerFromJs(js.Get("tokenIndex"), "tokenIndex", 0, kMaxSafeInteger));
  item.native.forced_token = Uint32OrNullFromJs(js.Get("forcedTokenId"), "forcedTokenId");
  const Napi::Value js_targets = js.Get("logprobTargets");
  if (!js_targets.IsNull()) {
    const auto targets = Uint32ViewFromJs(js_targets, "logprobTargets");
    item.logprob_targets.assign(targets.begin(), targets.end());
  }
  const auto token_ids = Uint32ViewFromJs(js.Get("tokenIds"), "tokenIds");
  item.token_ids.assign(token_ids.begin(), token_ids.end());
  try {
    if (state->engine.get() != &engine) RefuseArgument("the session belongs to another engine");
    item.call.emplace(state);
    item.native.session = item.call->native();
  } catch (const Error& error) {
    item.error = error;
  }
  return item;
}

class DecodeStepJob final : public Job {
 public:
  DecodeStepJob(Napi::Env env, const EngineState& state, std::deque<StepItem> items)
      : Job(state.environment(), env), engine_(state.engine()), items_(std::move(items)) {}

 private:
  void Execute() override {
    std::vector<DecodeItem> batch;
    for (StepItem& item : items_) {
      if (!item.call) continue;
      item.native.token_ids = item.token_ids;
      item.native.logprob_targets = item.logprob_targets;
      batch.push_back(std::move(item.native));
    }
    if (!batch.empty()) results_ = engine_.DecodeStep(batch);
    for (StepItem& item : items_) {
      if (item.call) item.size = DecodeSize::Of(*item.call->native());
    }
  }

  void Finished() override {
    for (StepItem& item : items_) {
      if (!item.call) continue;
      if (!failed()) item.call->state().SetSize(item.size);
      item.call->End();
    }
  }

  Napi::Value Result(Napi::Env env) override {
    Napi::Array js = Napi::Array::New(env, items_.size());
    std::size_t next = 0;
    for (std::uint32_t i = 0; i < items_.size(); ++i) {
      DecodeItemResult left_out;
      left_out.error = items_[i].error;
      js.Set(i, DecodeItemResultToJs(env, items_[i].call ? results_.at(next++) : left_out));
    }
    return js;
  }

  Engine& engine_;
  std::deque<StepItem> items_;
  std::vector<DecodeItemResult> results_;  // of the items with a call
};

/// decodeStep(engine, items): Promise<DecodeItemResult[]>
Napi::Value DecodeStep(const Napi::CallbackInfo& info) {
  const auto engine = HandleFromJs<EngineState>(info[0]);
  if (!info[1].IsArray()) RefuseArgument("items must be an array");
  const auto js_items = info[1].As<Napi::Array>();
  std::deque<StepItem> items;
  for (std::uint32_t i = 0; i < js_items.Length(); ++i) {
    items.push_back(StepItemFromJs(js_items.Get(i), *engine));
  }
  engine->environment()->RequireOpen();
  static_cast<void>(engine->engine());  // refuses a closed one
  return Queue(engine->thread(),
               std::make_unique<DecodeStepJob>(info.Env(), *engine, std::move(items)));
}

class AppendLogitsJob final : public Job {
 public:
  AppendLogitsJob(Napi::Env env, SessionCall<DecodeState> call, Engine& engine,
                  std::span<const std::uint32_t> token_ids, const Napi::Object& js_token_ids,
                  std::vector<std::int64_t> rows)
      : Job(call.state().engine->environment(), env),
        call_(std::move(call)),
        engine_(engine),
        token_ids_(token_ids),
        rows_(std::move(rows)) {
    Keep(js_token_ids);
  }
  const void* owner() const override { return &call_.state(); }

 private:
  void Execute() override {
    logits_ = engine_.AppendLogits(*call_.native(), token_ids_, rows_);
    size_ = DecodeSize::Of(*call_.native());
  }
  void Finished() override {
    if (!failed()) call_.state().SetSize(size_);
    call_.End();
  }
  Napi::Value Result(Napi::Env env) override {
    return TypedArrayToJs<Napi::Float32Array>(env, std::span(std::as_const(logits_)));
  }

  SessionCall<DecodeState> call_;
  Engine& engine_;
  std::span<const std::uint32_t> token_ids_;
  std::vector<std::int64_t> rows_;
  std::vector<float> logits_;
  DecodeSize size_;
};

/// appendLogits(session, tokenIds, rows): Promise<Float32Array>
Napi::Value AppendLogits(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<DecodeState>(info[0]);
  const std::span<const std::uint32_t> token_ids = Uint32ViewFromJs(info[1], "tokenIds");
  std::vector<std::int64_t> rows = PositionsFromJs(info[2], "rows");
  state->engine->environment()->RequireOpen();
  Engine& engine = state->engine->engine();
  return Queue(state->engine->thread(),
               std::make_unique<AppendLogitsJob>(info.Env(), SessionCall(state), engine, token_ids,
                                                 info[1].As<Napi::Object>(), std::move(rows)));
}

/// decodeSessionTokens(session): number
Napi::Value DecodeSessionTokens(const Napi::CallbackInfo& info) {
  return NumberToJs(info.Env(), HandleFromJs<DecodeState>(info[0])->tokens());
}

/// cancelDecodeSession(session): void
Napi::Value CancelDecodeSession(const Napi::CallbackInfo& info) {
  HandleFromJs<DecodeState>(info[0])->Cancel();
  return info.Env().Undefined();
}

/// closeDecodeSession(session): Promise<void>
Napi::Value CloseDecodeSession(const Napi::CallbackInfo& info) {
  return HandleFromJs<DecodeState>(info[0])->Close(info.Env());
}

}  // namespace

void ExportDecode(Napi::Object exports) {
  Export<Asynchronous<OpenDecodeSession>>(exports, "openDecodeSession");
  Export<Synchronous<OpenScratchSession>>(exports, "openScratchSession");
  Export<Asynchronous<DecodeStep>>(exports, "decodeStep");
  Export<Asynchronous<AppendLogits>>(exports, "appendLogits");
  Export<Synchronous<DecodeSessionTokens>>(exports, "decodeSessionTokens");
  Export<Synchronous<CancelDecodeSession>>(exports, "cancelDecodeSession");
  Export<Asynchronous<CloseDecodeSession>>(exports, "closeDecodeSession");
}

}  // namespace longshadow::binding

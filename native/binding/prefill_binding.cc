// N-API binding of prefill. Converts, queues, converts back; computes nothing.

#include <napi.h>

#include <atomic>
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

/// openPrefillSession(engine, store, key, sparse): PrefillSessionHandle
Napi::Value OpenPrefillSession(const Napi::CallbackInfo& info) {
  const auto engine = HandleFromJs<EngineState>(info[0]);
  const auto store = HandleFromJs<StoreState>(info[1]);
  const SessionKey key = SessionKeyFromJs(info[2], engine->info().layer_begin);
  std::vector<SegmentOrigin> origins = OriginsFromJs(info[2]);
  engine->environment()->RequireOpen();
  static_cast<void>(engine->engine());  // refuses a closed one
  auto sparse = SparsePolicyFromJs(info[3], engine->info());
  auto session = PrefillSession::Open(store->store, key, engine->info().geometry,
                                      engine->info().config.hidden_size, std::move(origins));
  return HandleToJs(info.Env(),
                    std::make_shared<PrefillState>(engine, std::move(session), std::move(sparse)));
}

/// prefillSessionSegments(session): SegmentInfo[]
Napi::Value PrefillSessionSegments(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<PrefillState>(info[0]);
  static_cast<void>(state->native());  // refuses a closed one
  const std::vector<SegmentInfo>& segments = state->segments();
  Napi::Array js = Napi::Array::New(info.Env(), segments.size());
  for (std::uint32_t i = 0; i < segments.size(); ++i) {
    js.Set(i, SegmentInfoToJs(info.Env(), segments[i]));
  }
  return js;
}

/// A job of one prefill session.
class PrefillSessionJob : public Job {
 public:
  PrefillSessionJob(Napi::Env env, SessionCall<PrefillState> call)
      : Job(call.state().engine->environment(), env), call_(std::move(call)) {}
  const void* owner() const override { return &call_.state(); }

 protected:
  void Finished() override { call_.End(); }
  PrefillState& state() const { return call_.state(); }
  PrefillSession& native() const { return *call_.native(); }

 private:
  SessionCall<PrefillState> call_;
};

/// A chunk's request. `token_ids` views the JavaScript array.
struct ChunkRequest {
  PrefillChunkRequest native;
  std::vector<std::int64_t> logprob_positions;
  Napi::Object token_ids;
};

ChunkRequest ChunkRequestFromJs(const Napi::Value& value) {
  const Napi::Object js = ObjectFromJs(value, "request");
  ChunkRequest request;
  request.native.begin = IntegerFromJs(js.Get("beginToken"), "beginToken", 0, kMaxSafeInteger);
  request.native.next_token_id = Uint32OrNullFromJs(js.Get("nextTokenId"), "nextTokenId");
  const Napi::Value dense_from = js.Get("denseFromToken");
  if (!dense_from.IsNull()) {
    request.native.dense_from = IntegerFromJs(dense_from, "denseFromToken", 0, kMaxSafeInteger);
  }
  request.logprob_positions = PositionsFromJs(js.Get("logprobPositions"), "logprobPositions");
  const Napi::Value token_ids = js.Get("tokenIds");  // last: no getter runs after the view is made
  request.native.token_ids = Uint32ViewFromJs(token_ids, "tokenIds");
  request.token_ids = token_ids.As<Napi::Object>();
  return request;
}

class PrefillChunkJob final : public PrefillSessionJob {
 public:
  PrefillChunkJob(Napi::Env env, SessionCall<PrefillState> call, Engine& engine,
                  ChunkRequest request, const Napi::Function& on_progress)
      : PrefillSessionJob(env, std::move(call)),
        engine_(engine),
        sparse_(state().sparse()),
        request_(request.native),
        positions_(std::move(request.logprob_positions)) {
    request_.logprob_positions = positions_;
    request_.sparse = sparse_.get();
    Keep(on_progress);
    Keep(request.token_ids);
  }

  /// On the JavaScript thread.
  void CallProgress(Napi::Env env) {
    progress_pending_.store(false);
    Kept(0).As<Napi::Function>().Call({Napi::Number::New(env, share_.load())});
  }

 private:
  void Execute() override {
    native().cancellation().ThrowIfCancelled();
    result_ = engine_.PrefillChunk(native(), request_, [this](double share) { Report(share); });
  }
  void Report(double share);
  void Finished() override {
    if (!failed()) state().AddSegment(result_.segment);
    PrefillSessionJob::Finished();
  }
  Napi::Value Result(Napi::Env env) override { return PrefillChunkResultToJs(env, result_); }

  Engine& engine_;
  std::shared_ptr<const SparsePolicy> sparse_;
  PrefillChunkRequest request_;
  std::vector<std::int64_t> positions_;
  std::atomic<double> share_{0};
  std::atomic<bool> progress_pending_{false};
  PrefillChunkResult result_;
};

/// Calls a chunk's onProgress. The job's own message comes later, so the job is still there.
class ProgressMessage final : public Message {
 public:
  explicit ProgressMessage(PrefillChunkJob& job) : job_(job) {}
  void Deliver(Napi::Env env) override { job_.CallProgress(env); }

 private:
  PrefillChunkJob& job_;
};

/// On the engine's thread. A call that JavaScript has not taken yet will see the newest share.
void PrefillChunkJob::Report(double share) {
  if (!(share > 0)) return;
  share_.store(share);
  if (!progress_pending_.exchange(true)) {
    environment()->Post(std::make_unique<ProgressMessage>(*this));
  }
}

/// prefillChunk(session, request, onProgress): Promise<PrefillChunkResult>
Napi::Value PrefillChunk(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<PrefillState>(info[0]);
  ChunkRequest request = ChunkRequestFromJs(info[1]);
  const Napi::Function on_progress = FunctionFromJs(info[2], "onProgress");
  state->engine->environment()->RequireOpen();
  Engine& engine = state->engine->engine();
  return Queue(state->engine->thread(),
               std::make_unique<PrefillChunkJob>(info.Env(), SessionCall(state), engine,
                                                 std::move(request), on_progress));
}

class PatternTrialJob final : public PrefillSessionJob {
 public:
  PatternTrialJob(Napi::Env env, SessionCall<PrefillState> call, Engine& engine,
                  ChunkRequest request, std::vector<HeadBudget> candidates,
                  std::optional<TriedHead> shown)
      : PrefillSessionJob(env, std::move(call)),
        engine_(engine),
        request_(request.native),
        positions_(std::move(request.logprob_positions)),
        candidates_(std::move(candidates)),
        shown_(shown) {
    request_.logprob_positions = positions_;
    Keep(request.token_ids);
  }

 private:
  void Execute() override {
    native().cancellation().ThrowIfCancelled();
    const PatternTrialRequest trial{candidates_, FlexOptions{}, shown_};
    result_ = engine_.TryPatterns(native(), request_, trial, {});
  }
  void Finished() override {
    if (!failed()) state().AddSegment(result_.segment);
    PrefillSessionJob::Finished();
  }
  Napi::Value Result(Napi::Env env) override { return PatternTrialResultToJs(env, result_); }

  Engine& engine_;
  PrefillChunkRequest request_;
  std::vector<std::int64_t> positions_;
  std::vector<HeadBudget> candidates_;
  std::optional<TriedHead> shown_;
  PatternTrialResult result_;
};

/// Null for null.
std::optional<TriedHead> TriedHeadFromJs(const Napi::Value& value) {
  if (value.IsNull()) return std::nullopt;
  const Napi::Object js = ObjectFromJs(value, "shown");
  return TriedHead{Int32FromJs(js.Get("layer"), "shown.layer"),
                   Int32FromJs(js.Get("head"), "shown.head"),
                   IntegerFromJs(js.Get("candidate"), "shown.candidate", 0, kMaxSafeInteger)};
}

/// tryPatterns(session, request, candidates, shown): Promise<PatternTrialResult>
Napi::Value TryPatterns(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<PrefillState>(info[0]);
  ChunkRequest request = ChunkRequestFromJs(info[1]);
  std::vector<HeadBudget> candidates = BudgetsFromJs(info[2], "candidates");
  const std::optional<TriedHead> shown = TriedHeadFromJs(info[3]);
  if (state->sparse() != nullptr) {
    RefuseArgument(
        "the session was opened with a sparse policy, but patterns are tried beside dense chunks: "
        "open it without one");
  }
  state->engine->environment()->RequireOpen();
  Engine& engine = state->engine->engine();
  return Queue(state->engine->thread(),
               std::make_unique<PatternTrialJob>(info.Env(), SessionCall(state), engine,
                                                 std::move(request), std::move(candidates), shown));
}

class SealJob final : public PrefillSessionJob {
 public:
  using PrefillSessionJob::PrefillSessionJob;

 private:
  void Execute() override { hand_off_ = native().Seal(); }
  Napi::Value Result(Napi::Env env) override {
    return TypedArrayToJs<Napi::Uint8Array>(env, std::span(std::as_const(hand_off_)));
  }

  std::vector<std::uint8_t> hand_off_;
};

/// sealPrefillSession(session): Promise<Uint8Array>
Napi::Value SealPrefillSession(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<PrefillState>(info[0]);
  state->engine->environment()->RequireOpen();
  static_cast<void>(state->engine->engine());  // refuses a closed one, whose thread may have ended
  return Queue(state->engine->thread(), std::make_unique<SealJob>(info.Env(), SessionCall(state)));
}

/// cancelPrefillSession(session): void
Napi::Value CancelPrefillSession(const Napi::CallbackInfo& info) {
  HandleFromJs<PrefillState>(info[0])->Cancel();
  return info.Env().Undefined();
}

/// closePrefillSession(session): Promise<void>
Napi::Value ClosePrefillSession(const Napi::CallbackInfo& info) {
  return HandleFromJs<PrefillState>(info[0])->Close(info.Env());
}

}  // namespace

void ExportPrefill(Napi::Object exports) {
  Export<Synchronous<OpenPrefillSession>>(exports, "openPrefillSession");
  Export<Synchronous<PrefillSessionSegments>>(exports, "prefillSessionSegments");
  Export<Asynchronous<PrefillChunk>>(exports, "prefillChunk");
  Export<Asynchronous<TryPatterns>>(exports, "tryPatterns");
  Export<Asynchronous<SealPrefillSession>>(exports, "sealPrefillSession");
  Export<Synchronous<CancelPrefillSession>>(exports, "cancelPrefillSession");
  Export<Asynchronous<ClosePrefillSession>>(exports, "closePrefillSession");
}

}  // namespace longshadow::binding

// N-API binding of engines. An engine has one thread, which opens it, runs its jobs in order, and
// frees it.

#include <napi.h>

#include <memory>
#include <utility>

#include "call.h"
#include "from_js.h"
#include "handles.h"
#include "job.h"
#include "to_js.h"

namespace longshadow::binding {
namespace {

class OpenEngineJob final : public Job {
 public:
  OpenEngineJob(std::shared_ptr<Environment> environment, Napi::Env env,
                std::shared_ptr<JobThread> thread, EngineOptions options)
      : Job(std::move(environment), env), thread_(std::move(thread)), options_(std::move(options)) {
    options_.interrupt = &interrupt_;
    this->environment()->Register(interrupt_);  // the process's end does not wait for the model
  }
  ~OpenEngineJob() override { environment()->Unregister(interrupt_); }

 private:
  void Execute() override { engine_ = Engine::Open(options_); }
  void Finished() override {
    if (!engine_) thread_->Stop();
  }
  Napi::Value Result(Napi::Env env) override {
    return HandleToJs(
        env, std::make_shared<EngineState>(environment(), std::move(thread_), std::move(engine_)));
  }

  std::shared_ptr<JobThread> thread_;
  EngineOptions options_;
  CancellationFlag interrupt_;
  std::shared_ptr<Engine> engine_;
};

/// openEngine(options): Promise<EngineHandle>
Napi::Value OpenEngine(const Napi::CallbackInfo& info) {
  EngineOptions options = EngineOptionsFromJs(info[0]);
  const auto environment = Environment::Of(info.Env());
  auto thread = environment->NewThread();
  return Queue(*thread, std::make_unique<OpenEngineJob>(environment, info.Env(), thread,
                                                        std::move(options)));
}

/// engineInfo(engine): EngineInfo
Napi::Value GetEngineInfo(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<EngineState>(info[0]);
  return EngineInfoToJs(info.Env(), state->engine().info());
}

/// engineCounters(engine): EngineCounters
Napi::Value GetEngineCounters(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<EngineState>(info[0]);
  return EngineCountersToJs(info.Env(), state->engine().counters());
}

/// Ends behind the engine's running and queued jobs, and the thread with it. A second one finds
/// nothing left to free and ends behind the first.
class CloseEngineJob final : public Job {
 public:
  CloseEngineJob(Napi::Env env, std::shared_ptr<EngineState> state)
      : Job(state->environment(), env), state_(std::move(state)), engine_(state_->TakeEngine()) {}

 private:
  void Execute() override { engine_.reset(); }
  void Finished() override { state_->StopThread(); }
  Napi::Value Result(Napi::Env env) override { return env.Undefined(); }

  std::shared_ptr<EngineState> state_;
  std::shared_ptr<Engine> engine_;
};

/// closeEngine(engine): Promise<void>
Napi::Value CloseEngine(const Napi::CallbackInfo& info) {
  const auto state = HandleFromJs<EngineState>(info[0]);
  state->environment()->RequireOpen();
  if (state->thread_stopped()) {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Resolve(info.Env().Undefined());
    return deferred.Promise();
  }
  return Queue(state->thread(), std::make_unique<CloseEngineJob>(info.Env(), state));
}

}  // namespace

void ExportEngine(Napi::Object exports) {
  Export<Asynchronous<OpenEngine>>(exports, "openEngine");
  Export<Synchronous<GetEngineInfo>>(exports, "engineInfo");
  Export<Synchronous<GetEngineCounters>>(exports, "engineCounters");
  Export<Asynchronous<CloseEngine>>(exports, "closeEngine");
}

}  // namespace longshadow::binding

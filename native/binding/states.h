#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "environment.h"
#include "from_js.h"
#include "job.h"
#include "longshadow/engine.h"
#include "longshadow/session_kv.h"
#include "longshadow/value_store.h"

namespace longshadow::binding {

// What JavaScript handles stand for. All of it belongs to the JavaScript thread; what an engine's
// thread may touch is reached through pointers that jobs take along.

/// An open engine and its thread. Jobs hold a plain pointer to the engine: it is destroyed by the
/// last job of the thread, so it outlives every other.
class EngineState {
 public:
  EngineState(std::shared_ptr<Environment> environment, std::shared_ptr<JobThread> thread,
              std::shared_ptr<Engine> engine);
  ~EngineState();
  EngineState(const EngineState&) = delete;
  EngineState& operator=(const EngineState&) = delete;

  /// Throws kInvalidArgument once closed.
  Engine& engine() const;
  JobThread& thread() const { return *thread_; }
  const EngineInfo& info() const { return info_; }
  const std::shared_ptr<Environment>& environment() const { return environment_; }

  /// No job may follow: the engine is closed.
  void StopThread() {
    thread_stopped_ = true;
    thread_->Stop();
  }
  bool thread_stopped() const { return thread_stopped_; }

  /// Takes the engine out: the caller destroys it on the thread. Null when already taken.
  std::shared_ptr<Engine> TakeEngine();

 private:
  std::shared_ptr<Environment> environment_;
  std::shared_ptr<JobThread> thread_;
  std::shared_ptr<Engine> engine_;
  bool thread_stopped_ = false;
  EngineInfo info_;
};

/// Settles a close when the memory is free.
class CloseSessionJob final : public Job {
 public:
  using Job::Job;

 private:
  void Execute() override {}
  Napi::Value Result(Napi::Env env) override { return env.Undefined(); }
};

struct StoreState {
  std::shared_ptr<ValueStore> store;
};

/// A session of either kind. Its native part goes when it is closed and no call runs.
template <typename Native>
class SessionState {
 public:
  SessionState(std::shared_ptr<EngineState> engine_state, std::shared_ptr<Native> session)
      : engine(std::move(engine_state)), native_(std::move(session)) {
    engine->environment()->Register(native_->cancellation());
  }
  ~SessionState() { Release(); }
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;

  /// Throws kInvalidArgument once closed.
  const std::shared_ptr<Native>& native() const {
    if (closed_) RefuseArgument("the session is closed");
    return native_;
  }
  void BeginCall() { ++running_; }
  void EndCall() {
    if (--running_ == 0 && closed_) Release();
  }
  /// Running work and work still queued end with kCancelled.
  void Cancel() {
    if (!native_) return;
    native_->cancellation().Cancel();
    engine->thread().CancelQueued(this);
  }
  /// Frees the native part when no call runs. The promise settles when its memory is free.
  Napi::Value Close(Napi::Env env) {
    closed_ = true;
    closers_.push_back(std::make_unique<CloseSessionJob>(engine->environment(), env));
    const Napi::Promise promise = closers_.back()->promise();
    if (running_ == 0) Release();
    return promise;
  }
  /// Native bytes that this session keeps alive: told to the garbage collector.
  void SetBytes(std::int64_t bytes) {
    engine->environment()->AdjustExternalMemory(bytes - bytes_);
    bytes_ = bytes;
  }
  std::int64_t bytes() const { return bytes_; }

  const std::shared_ptr<EngineState> engine;

 private:
  void Release() {
    const std::shared_ptr<Environment>& environment = engine->environment();
    if (native_) {
      environment->Unregister(native_->cancellation());
      on_file_thread_ = environment->Release(std::move(native_), bytes_);
      SetBytes(0);
    }
    for (std::unique_ptr<CloseSessionJob>& closer : std::exchange(closers_, {})) {
      if (on_file_thread_ && !environment->ending()) {
        environment->FileThread().Push(std::make_unique<JobTask>(std::move(closer)));
      } else {
        environment->Post(std::move(closer));
      }
    }
  }

  std::shared_ptr<Native> native_;
  std::vector<std::unique_ptr<CloseSessionJob>> closers_;  // whose promises wait for Release
  bool on_file_thread_ = false;  // the native part was left to the file thread
  bool closed_ = false;
  std::int64_t running_ = 0;
  std::int64_t bytes_ = 0;
};

class PrefillState : public SessionState<PrefillSession> {
 public:
  /// sparse: how its chunks attend; null for dense ones.
  PrefillState(std::shared_ptr<EngineState> engine_state, std::shared_ptr<PrefillSession> session,
               std::shared_ptr<const SparsePolicy> sparse)
      : SessionState(std::move(engine_state), std::move(session)), sparse_(std::move(sparse)) {
    for (const SegmentInfo& segment : native()->segments()) AddSegment(segment);
  }
  void AddSegment(const SegmentInfo& segment) {
    segments_.push_back(segment);
    SetBytes(bytes() + segment.bytes);
  }
  const std::vector<SegmentInfo>& segments() const { return segments_; }
  const std::shared_ptr<const SparsePolicy>& sparse() const { return sparse_; }

 private:
  const std::shared_ptr<const SparsePolicy> sparse_;
  std::vector<SegmentInfo> segments_;  // as of the last settled call
};

/// A running call of a session: keeps its native part until the call has ended.
template <typename State>
class SessionCall {
 public:
  /// Throws kInvalidArgument once the session is closed.
  explicit SessionCall(std::shared_ptr<State> state)
      : state_(std::move(state)), native_(state_->native()) {
    state_->BeginCall();
  }
  ~SessionCall() { End(); }
  SessionCall(SessionCall&& other) noexcept = default;
  SessionCall(const SessionCall&) = delete;
  SessionCall& operator=(const SessionCall&) = delete;
  SessionCall& operator=(SessionCall&&) = delete;

  void End() {
    if (!native_) return;
    native_.reset();
    state_->EndCall();
  }
  State& state() const { return *state_; }
  const auto& native() const { return native_; }

 private:
  std::shared_ptr<State> state_;
  std::decay_t<decltype(std::declval<State>().native())> native_;
};

/// Sizes of a decode session, read on the thread that changed it.
struct DecodeSize {
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;

  static DecodeSize Of(const DecodeSession& session) {
    const std::int64_t kv_bytes = session.tokens() * session.geometry().BytesPerToken();
    return {session.tokens(), std::max(kv_bytes, session.private_bytes())};
  }
};

class DecodeState : public SessionState<DecodeSession> {
 public:
  DecodeState(std::shared_ptr<EngineState> engine_state, std::shared_ptr<DecodeSession> session)
      : SessionState(std::move(engine_state), std::move(session)) {
    SetSize(DecodeSize::Of(*native()));
  }
  void SetSize(const DecodeSize& size) {
    tokens_ = size.tokens;
    SetBytes(size.bytes);
  }
  std::int64_t tokens() const { return tokens_; }

 private:
  std::int64_t tokens_ = 0;  // as of the last settled call
};

}  // namespace longshadow::binding

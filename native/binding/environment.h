#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "job_thread.h"
#include "longshadow/cancellation.h"

namespace longshadow::binding {

/// Something that a native thread hands to the JavaScript thread.
class Message {
 public:
  virtual ~Message() = default;
  /// On the JavaScript thread, in the order of posting.
  virtual void Deliver(Napi::Env env) = 0;
  /// Instead of Deliver when the environment has gone: let go of JavaScript values without a call
  /// into JavaScript.
  virtual void Abandon() {}
};

/// Runs a message on the JavaScript thread; `env` is null when the environment has gone.
void DeliverMessage(Napi::Env env, Napi::Function callback, std::nullptr_t* context,
                    Message* message);

/// What one JavaScript environment (the main thread, or a worker thread) owns: the way back from
/// native threads, the threads, and the sessions to cancel when it ends. Everything but Post is
/// for the JavaScript thread.
class Environment : public std::enable_shared_from_this<Environment> {
 public:
  /// Makes the environment of `env` and ties its end to process 'exit' and to env's teardown.
  static void Create(Napi::Env env);
  static std::shared_ptr<Environment> Of(Napi::Env env);

  /// From any thread.
  void Post(std::unique_ptr<Message> message);

  /// Node must not exit between these two: a promise is open.
  void BeginPending();
  void EndPending();

  /// A thread for a new engine. Throws kInternal when the environment is ending.
  std::shared_ptr<JobThread> NewThread();
  /// The thread for file work that belongs to no engine's order. Throws like NewThread.
  JobThread& FileThread();
  /// Throws kInternal when the environment is ending.
  void RequireOpen() const;
  bool ending() const { return ending_; }

  /// Cancelled when the environment ends.
  void Register(CancellationFlag& flag) { flags_.insert(&flag); }
  void Unregister(CancellationFlag& flag) { flags_.erase(&flag); }

  /// Lets go of memory of this size: at once when small, else on the file thread, since taking
  /// down a large mapping takes long. Returns true for the file thread: what is queued there next
  /// runs when the memory is free. Where there is no such thread, at once.
  bool Release(std::shared_ptr<void> memory, std::int64_t bytes) noexcept;

  /// Tells the garbage collector about native memory that JavaScript keeps alive.
  void AdjustExternalMemory(std::int64_t change);

 private:
  using Channel = Napi::TypedThreadSafeFunction<std::nullptr_t, Message, DeliverMessage>;

  explicit Environment(Napi::Env env) : env_(env) {}
  /// Cancels every session, drops queued work, and joins the threads. Idempotent.
  void Shutdown();

  Napi::Env env_;
  Channel channel_;
  std::int64_t pending_ = 0;
  bool ending_ = false;
  std::set<CancellationFlag*> flags_;
  std::vector<std::shared_ptr<JobThread>> threads_;
  std::unique_ptr<JobThread> file_thread_;
};

}  // namespace longshadow::binding

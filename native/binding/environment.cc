#include "environment.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "longshadow/error.h"

namespace longshadow::binding {
namespace {

/// Unmapping this much takes about a millisecond; more is left to the file thread.
constexpr std::int64_t kReleaseHereBytes = std::int64_t{16} << 20;

/// Drops its memory where it runs.
class ReleaseTask final : public Task {
 public:
  explicit ReleaseTask(std::shared_ptr<void> memory) : memory_(std::move(memory)) {}
  void Run() override { memory_.reset(); }
  void Cancel() override {}

 private:
  std::shared_ptr<void> memory_;
};

}  // namespace

void DeliverMessage(Napi::Env env, Napi::Function, std::nullptr_t*, Message* message) {
  const std::unique_ptr<Message> owned(message);
  if (env == nullptr) {
    owned->Abandon();
  } else {
    owned->Deliver(env);
  }
}

void Environment::Create(Napi::Env env) {
  const std::shared_ptr<Environment> self(new Environment(env));
  self->channel_ = Channel::New(env, "longshadow", 0, 1);
  self->channel_.Unref(env);
  env.SetInstanceData(new std::shared_ptr<Environment>(self));
  // Three ends. 'exit' comes before the C library destroys its statics under running threads; the
  // cleanup hook serves worker threads that are terminated. It is added after the channel, so it
  // runs before the channel closes.
  const auto process = env.Global().Get("process").As<Napi::Object>();
  const std::weak_ptr<Environment> weak = self;
  const auto on_exit = Napi::Function::New(env, [weak](const Napi::CallbackInfo&) {
    if (const auto environment = weak.lock()) environment->Shutdown();
  });
  process.Get("once").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), on_exit});
  env.AddCleanupHook([self] { self->Shutdown(); });
}

std::shared_ptr<Environment> Environment::Of(Napi::Env env) {
  return *env.GetInstanceData<std::shared_ptr<Environment>>();
}

void Environment::Post(std::unique_ptr<Message> message) {
  if (channel_.BlockingCall(message.get()) == napi_ok) {
    message.release();  // DeliverMessage owns it now
  } else {
    message->Abandon();
  }
}

void Environment::BeginPending() {
  if (pending_++ == 0) channel_.Ref(env_);
}

void Environment::EndPending() {
  if (--pending_ == 0 && !ending_) channel_.Unref(env_);
}

void Environment::RequireOpen() const {
  if (ending_) throw Error(ErrorCode::kInternal, "the process is ending; no work can start");
}

std::shared_ptr<JobThread> Environment::NewThread() {
  RequireOpen();
  std::erase_if(threads_, [](const auto& thread) { return thread->finished(); });
  return threads_.emplace_back(std::make_shared<JobThread>("ls-engine"));
}

JobThread& Environment::FileThread() {
  RequireOpen();
  if (!file_thread_) file_thread_ = std::make_unique<JobThread>("ls-files");
  return *file_thread_;
}

bool Environment::Release(std::shared_ptr<void> memory, std::int64_t bytes) noexcept {
  if (bytes <= kReleaseHereBytes || ending_) return false;  // dropped here, with the argument
  try {
    FileThread().Push(std::make_unique<ReleaseTask>(std::move(memory)));
    return true;
  } catch (const std::exception&) {
    return false;  // dropped here too: slow, but free
  }
}

void Environment::AdjustExternalMemory(std::int64_t change) {
  if (!ending_ && change != 0) Napi::MemoryManagement::AdjustExternalMemory(env_, change);
}

void Environment::Shutdown() {
  if (std::exchange(ending_, true)) return;
  for (CancellationFlag* flag : flags_) flag->Cancel();
  for (const auto& thread : threads_) thread->Stop();  // all of them wind down at once
  for (const auto& thread : threads_) thread->StopNow();
  if (file_thread_) file_thread_->StopNow();
}

}  // namespace longshadow::binding

#pragma once

#include <napi.h>

#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "environment.h"
#include "longshadow/error.h"
#include "to_js.h"

namespace longshadow::binding {

/// One call that runs on a JobThread and settles a promise. Made, settled and destroyed on the
/// JavaScript thread; only Execute runs elsewhere, and it touches nothing of JavaScript.
class Job : public Message {
 public:
  Job(std::shared_ptr<Environment> environment, Napi::Env env)
      : environment_(std::move(environment)), deferred_(Napi::Promise::Deferred::New(env)) {
    environment_->BeginPending();
  }
  ~Job() override { EndPending(); }

  Napi::Promise promise() const { return deferred_.Promise(); }
  const std::shared_ptr<Environment>& environment() const { return environment_; }
  /// Whose cancellation takes this job out of the queue; null for nobody's.
  virtual const void* owner() const { return nullptr; }

  /// On the thread: Execute, with what it throws kept for Deliver.
  void Run() noexcept {
    try {
      Execute();
    } catch (const Error& error) {
      error_ = error;
    } catch (const std::exception& error) {
      error_ = Error(ErrorCode::kInternal, error.what());
    } catch (...) {
      error_ = Error(ErrorCode::kInternal, "an unknown exception");
    }
  }
  void Fail(ErrorCode code, const std::string& message) { error_ = Error(code, message); }

  void Deliver(Napi::Env env) override {
    EndPending();
    Finished();
    if (error_) {
      deferred_.Reject(ErrorToJs(env, *error_).Value());
      return;
    }
    try {
      deferred_.Resolve(Result(env));
    } catch (const Error& error) {
      deferred_.Reject(ErrorToJs(env, error).Value());
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const std::exception& error) {
      deferred_.Reject(ErrorToJs(env, Error(ErrorCode::kInternal, error.what())).Value());
    }
  }

  void Abandon() override {
    for (Napi::ObjectReference& reference : kept_) reference.SuppressDestruct();
  }

 protected:
  virtual void Execute() = 0;
  /// On the JavaScript thread, after success.
  virtual Napi::Value Result(Napi::Env env) = 0;
  /// On the JavaScript thread, after success and failure alike, before the promise settles. Must
  /// not throw.
  virtual void Finished() {}
  /// Keeps a JavaScript object alive until the job is destroyed: Execute may view its bytes.
  void Keep(const Napi::Object& object) { kept_.push_back(Napi::Persistent(object)); }
  Napi::Object Kept(std::size_t index) const { return kept_.at(index).Value(); }
  bool failed() const { return error_.has_value(); }

 private:
  void EndPending() {
    if (std::exchange(pending_, false)) environment_->EndPending();
  }

  std::shared_ptr<Environment> environment_;
  Napi::Promise::Deferred deferred_;
  bool pending_ = true;
  std::vector<Napi::ObjectReference> kept_;
  std::optional<Error> error_;
};

/// A Job in a queue.
class JobTask final : public Task {
 public:
  explicit JobTask(std::unique_ptr<Job> job) : job_(std::move(job)) {}

  void Run() override {
    job_->Run();
    Post();
  }
  void Cancel() override {
    job_->Fail(ErrorCode::kCancelled, "the session was cancelled");
    Post();
  }
  const void* owner() const override { return job_->owner(); }

 private:
  void Post() {
    const std::shared_ptr<Environment> environment = job_->environment();
    environment->Post(std::move(job_));
  }

  std::unique_ptr<Job> job_;
};

/// Queues a job and returns its promise.
inline Napi::Value Queue(JobThread& thread, std::unique_ptr<Job> job) {
  const Napi::Promise promise = job->promise();
  thread.Push(std::make_unique<JobTask>(std::move(job)));
  return promise;
}

}  // namespace longshadow::binding

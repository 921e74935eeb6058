#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace longshadow::binding {

/// A piece of work for a JobThread.
class Task {
 public:
  virtual ~Task() = default;
  /// On the thread.
  virtual void Run() = 0;
  /// On the JavaScript thread, instead of Run, when the owner was cancelled before it started.
  virtual void Cancel() = 0;
  /// What CancelQueued names; null when the task cannot be taken back.
  virtual const void* owner() const { return nullptr; }
};

/// One thread that runs tasks in order and blocks while there are none. Never libuv's pool: a few
/// queued matrix products there delay every file and name lookup of the process.
class JobThread {
 public:
  /// name: at most 15 characters, for those who look at the process's threads.
  explicit JobThread(const char* name);
  ~JobThread();  // stops and joins
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  void Push(std::unique_ptr<Task> task);
  /// Takes the owner's tasks that have not started out of the queue and cancels them.
  void CancelQueued(const void* owner);
  /// No task may follow; those queued still run. Does not wait.
  void Stop();
  /// Drops what is queued, stops, and waits for the running task.
  void StopNow();
  /// The thread has run its last task: the destructor will not wait.
  bool finished() const { return finished_; }

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Task>> queue_;
  bool stopping_ = false;
  std::atomic<bool> finished_{false};
  std::thread thread_;  // last: it starts when the rest is there
};

}  // namespace longshadow::binding

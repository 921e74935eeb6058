#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace longshadow::cpu {

/// A fixed set of threads that sleep on a condition variable between calls. The caller works as
/// thread 0, so `threads` counts it. One Run at a time.
class ThreadPool {
 public:
  /// threads: 0 for as many as this process may run on. Throws kInvalidArgument beyond 1,024,
  /// kInternal when the system starts fewer.
  explicit ThreadPool(std::int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::int32_t threads() const { return threads_; }

  /// Calls work(task, thread) for every task in [0, tasks): threads claim the next task as they
  /// become free, in ascending order. Returns when all are done; rethrows the first exception
  /// (tasks that no thread has claimed by then are dropped).
  void Run(std::int64_t tasks, const std::function<void(std::int64_t, std::int32_t)>& work);

 private:
  /// Ends the threads that have started.
  void Join();
  void WorkerLoop(std::int32_t thread);
  void Drain(std::int32_t thread);

  std::int32_t threads_ = 1;
  std::vector<std::thread> workers_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::uint64_t generation_ = 0;  // guarded by mutex_, as are the next three
  std::int32_t busy_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;

  const std::function<void(std::int64_t, std::int32_t)>* work_ = nullptr;
  std::int64_t tasks_ = 0;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace longshadow::cpu

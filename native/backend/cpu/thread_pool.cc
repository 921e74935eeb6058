#include "thread_pool.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "longshadow/error.h"

namespace longshadow::cpu {
namespace {

/// More than any host has; a typing error beyond it must not start threads until the system fails.
constexpr std::int32_t kMaxThreads = 1024;

std::int32_t UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<std::int32_t>(std::thread::hardware_concurrency()));
}

}  // namespace

ThreadPool::ThreadPool(std::int32_t threads)
    : threads_(threads > 0 ? threads : std::min(UsableCores(), kMaxThreads)) {
  if (threads_ > kMaxThreads) {
    throw Error(ErrorCode::kInvalidArgument, "threads must be at most " +
                                                 std::to_string(kMaxThreads) + ", not " +
                                                 std::to_string(threads_));
  }
  try {
    workers_.reserve(static_cast<std::size_t>(threads_ - 1));
    for (std::int32_t t = 1; t < threads_; ++t) {
      workers_.emplace_back([this, t] { WorkerLoop(t); });
    }
  } catch (const std::exception& error) {
    const std::size_t started = workers_.size() + 1;
    Join();
    throw Error(ErrorCode::kInternal,
                "only " + std::to_string(started) + " of " + std::to_string(threads_) +
                    " compute threads could start (" + error.what() + "); ask for fewer");
  }
}

ThreadPool::~ThreadPool() { Join(); }

void ThreadPool::Join() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(std::int64_t tasks,
                     const std::function<void(std::int64_t, std::int32_t)>& work) {
  if (tasks <= 0) return;
  // oneDNN is built on OpenMP, whose teams spin: a team of one never starts a thread.
  omp_set_num_threads(1);
  work_ = &work;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  const bool share = tasks > 1 && !workers_.empty();
  if (share) {
    const std::lock_guard lock(mutex_);
    ++generation_;
    busy_ = static_cast<std::int32_t>(workers_.size());
    wake_.notify_all();
  }
  Drain(0);
  std::unique_lock lock(mutex_);
  if (share) done_.wait(lock, [this] { return busy_ == 0; });
  work_ = nullptr;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::Drain(std::int32_t thread) {
  try {
    for (;;) {
      const std::int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks_) return;
      (*work_)(task, thread);
    }
  } catch (...) {
    next_.store(tasks_, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void ThreadPool::WorkerLoop(std::int32_t thread) {
  pthread_setname_np(pthread_self(), "ls-compute");
  omp_set_num_threads(1);
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    lock.unlock();
    Drain(thread);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace longshadow::cpu

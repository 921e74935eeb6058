#include "job_thread.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace longshadow::binding {

JobThread::JobThread(const char* name)
    : thread_([this, name] {
        pthread_setname_np(pthread_self(), name);
        Loop();
      }) {}

JobThread::~JobThread() { StopNow(); }

void JobThread::Push(std::unique_ptr<Task> task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void JobThread::CancelQueued(const void* owner) {
  std::vector<std::unique_ptr<Task>> taken;
  {
    const std::lock_guard lock(mutex_);
    const auto first = std::stable_partition(
        queue_.begin(), queue_.end(), [&](const auto& task) { return task->owner() != owner; });
    taken.assign(std::move_iterator(first), std::move_iterator(queue_.end()));
    queue_.erase(first, queue_.end());
  }
  for (const auto& task : taken) task->Cancel();
}

void JobThread::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
}

void JobThread::StopNow() {
  std::deque<std::unique_ptr<Task>> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(queue_);
  }
  Stop();
  if (thread_.joinable()) thread_.join();
}

void JobThread::Loop() {
  for (;;) {
    std::unique_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) break;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task->Run();
  }
  finished_ = true;
}

}  // namespace longshadow::binding

#pragma once
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <loraga/core/error.hpp>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace loraga {

/// Threads that wait for one parallel loop after another. Chance decides which thread runs which task. If tasks share
/// no results, the outcome does not depend on the number of threads.
class thread_pool {
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::function<void(int)> job_;
  std::uint64_t round_ = 0;
  int busy_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }
  void serve(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      lock.unlock();
      job_(worker);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

 public:
  /// errors  backend_error if the system gives no more threads
  explicit thread_pool(int helpers) {
    try {
      for (int i = 0; i < helpers; ++i) threads_.emplace_back([this, i] { serve(i + 1); });
    } catch (std::system_error const& failure) {
      stop();
      throw backend_error("thread_pool: threads are " + std::to_string(helpers) + ", expected as many as the system " +
                              "gives (" + failure.what() + ")",
                          failure.code().value());
    }
  }
  ~thread_pool() { stop(); }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;

  /// Calls task(i, worker) for every i in [0, n), worker in [0, helpers], and returns when all are done. If tasks
  /// throw, the exception of the lowest i is thrown here after the loop.
  template <class F>
  void run(index_t n, F const& task) {
    std::atomic<index_t> next{0};
    std::mutex failure_mutex;
    std::exception_ptr failure;
    index_t failed = n;
    auto const loop = [&](int worker) {
      for (index_t i; (i = next.fetch_add(1)) < n;) try {
          task(i, worker);
        } catch (...) {
          std::lock_guard lock(failure_mutex);
          if (i < failed) {
            failed = i;
            failure = std::current_exception();
          }
        }
    };
    {
      std::lock_guard lock(mutex_);
      job_ = std::cref(loop);
      busy_ = static_cast<int>(threads_.size());
      ++round_;
    }
    wake_.notify_all();
    loop(0);
    {
      std::unique_lock lock(mutex_);
      done_.wait(lock, [&] { return busy_ == 0; });
    }
    if (failure) std::rethrow_exception(failure);
  }
};

}  // namespace loraga

#pragma once
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <exception>
#include <loraga/core/error.hpp>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace loraga {

/// A loop's body, task(i, worker), without its type: what drives loops is then compiled once, not once per body. Refers
/// to the body, which must outlive it.
class loop_body {
  void const* body_;
  void (*call_)(void const*, index_t, int);

 public:
  template <class F>
  requires std::invocable<F const&, index_t, int> &&(!std::same_as<F, loop_body>)loop_body(F const& body)
      : body_(&body), call_([](void const* f, index_t i, int worker) { (*static_cast<F const*>(f))(i, worker); }) {}
  void operator()(index_t i, int worker) const { call_(body_, i, worker); }
};

/// Threads that wait for one parallel loop after another. Chance decides which thread runs which task. If tasks share
/// no results, the outcome does not depend on the number of threads.
class thread_pool {
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  loop_body const* task_ = nullptr;  // of this round, as are the next three
  index_t tasks_ = 0, failed_ = 0;
  std::atomic<index_t> next_{0};
  std::exception_ptr failure_;
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
  void work(int worker) {
    for (index_t i; (i = next_.fetch_add(1)) < tasks_;) try {
        (*task_)(i, worker);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (i < failed_) {
          failed_ = i;
          failure_ = std::current_exception();
        }
      }
  }
  void serve(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      lock.unlock();
      work(worker);
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
  void run(index_t n, loop_body task) {
    {
      std::lock_guard lock(mutex_);
      task_ = &task;
      tasks_ = failed_ = n;
      next_ = 0;
      busy_ = static_cast<int>(threads_.size());
      ++round_;
    }
    wake_.notify_all();
    work(0);
    {
      std::unique_lock lock(mutex_);
      done_.wait(lock, [&] { return busy_ == 0; });
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
};

}  // namespace loraga

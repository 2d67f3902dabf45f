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

/// Threads that wait for one parallel loop after another. Each begins with a share of its own, the same in every loop
/// of so many tasks: what it wrote in one loop is in its cache for the next. Then it helps the others, so that chance
/// decides who runs what. If tasks share no results, the outcome does not depend on the number of threads.
class thread_pool {
  struct alignas(64) share {  // of a round's tasks; a cache line each
    std::atomic<index_t> next{0};
    index_t last = 0;
  };
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<std::uint64_t> round_{0};  // publishes what follows, down to busy_
  loop_body const* task_ = nullptr;
  std::vector<share> shares_;
  index_t failed_ = 0;
  std::exception_ptr failure_;
  std::atomic<int> busy_{0};  // threads that are not done with the round
  int asleep_ = 0;
  std::atomic<bool> stop_{false};
  int const looks_;  // before a thread sleeps; none with more threads than cores
  std::vector<std::thread> threads_;

  /// Looks again and again for a while, for loops often follow each other in less time than waking a thread takes.
  /// returns  whether `happened` came true
  template <class F>
  bool look_for(F const& happened) const {
    for (int i = 0; i < looks_; ++i) {
      if (happened()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
    return happened();
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }
  void work(int worker) {
    auto const count = shares_.size();
    for (std::size_t s = 0; s < count; ++s) {
      auto& mine = shares_[(static_cast<std::size_t>(worker) + s) % count];
      for (index_t i; (i = mine.next.fetch_add(1)) < mine.last;) try {
          (*task_)(i, worker);
        } catch (...) {
          std::lock_guard lock(mutex_);
          if (i < failed_) {
            failed_ = i;
            failure_ = std::current_exception();
          }
        }
    }
  }
  void serve(int worker) {
    std::uint64_t seen = 0;
    auto const called = [&] { return stop_ || round_ != seen; };
    for (;;) {
      if (!look_for(called)) {
        std::unique_lock lock(mutex_);
        ++asleep_;
        wake_.wait(lock, called);
        --asleep_;
      }
      if (stop_) return;
      seen = round_;
      work(worker);
      if (--busy_ > 0) continue;
      std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }

 public:
  /// errors  backend_error if the system gives no more threads
  explicit thread_pool(int helpers)
      : shares_(static_cast<std::size_t>(helpers) + 1),
        looks_(helpers < static_cast<int>(std::thread::hardware_concurrency()) ? 2000 : 0) {
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
    bool sleepers = false;
    {
      std::lock_guard lock(mutex_);
      task_ = &task;
      failed_ = n;
      auto const count = static_cast<index_t>(shares_.size());
      for (index_t s = 0; s < count; ++s) {
        auto& part = shares_[static_cast<std::size_t>(s)];
        part.next = n * s / count;
        part.last = n * (s + 1) / count;
      }
      busy_ = static_cast<int>(threads_.size());
      ++round_;
      sleepers = asleep_ > 0;
    }
    if (sleepers) wake_.notify_all();
    work(0);
    if (auto const finished = [&] { return busy_ == 0; }; !look_for(finished)) {
      std::unique_lock lock(mutex_);
      done_.wait(lock, finished);
    }
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
};

}  // namespace loraga

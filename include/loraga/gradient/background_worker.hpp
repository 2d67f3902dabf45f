#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <loraga/concepts.hpp>
#include <mutex>
#include <thread>

namespace loraga {

/// A host thread with a backend of its own, for work beside the training loop; on a GPU that is a second stream. Tasks
/// run in the order they were given. What a task reads is first copied, on the training's stream, into a slot of device
/// memory. So the training may overwrite its buffers at once. The training's stream never waits; the host waits only
/// where all slots are full. An exception of submitted work ends all of it: every later call throws
/// it. It serves one training thread. It must outlive what it works for, and the training's stream must outlive it.
/// Tasks must not call run or join, which would wait for themselves.
/// cost    per call one copy of the data on the training's stream
/// memory  slots * the largest data handed over in one call
/// errors  value_error if slots < 1
template <ForkableBackend B>
class background_worker {
  struct slot {
    matrix<std::byte, B> memory;
    typename B::event filled;
    bool busy = false;
  };

  std::unique_ptr<B> side_;
  std::vector<std::unique_ptr<slot>> slots_;
  decltype(std::declval<B&>().template allocate_host<std::byte>(1)) pinned_{};
  index_t pinned_bytes_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::exception_ptr failure_;
  bool running_ = false, stop_ = false;
  std::thread thread_;

 public:
  explicit background_worker(B const& be, int slots = 2) {
    require_value(slots >= 1, slots, "background_worker", "slots", "at least 1");
    side_ = be.fork();
    for (int i = 0; i < slots; ++i) slots_.push_back(std::make_unique<slot>());
    thread_ = std::thread([this] { serve(); });
  }
  /// Finishes what was given.
  ~background_worker() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  background_worker(background_worker const&) = delete;
  background_worker& operator=(background_worker const&) = delete;

  /// stage(p) asks `be` to copy `bytes` to p; task(side, p) works on them later, on the worker's thread. Returns once a
  /// slot is free.
  template <class Stage, class Task>
  void submit(B& be, index_t bytes, Stage const& stage, Task task) {
    slot& s = free_slot();
    if (s.memory.rows() < bytes) s.memory = matrix<std::byte, B>(be, bytes, 1);
    std::byte* const p = s.memory.view().data;
    stage(p);
    be.record(s.filled);
    push(
        [this, &s, p, task] {
          side_->wait(s.filled);
          std::exception_ptr failure;
          auto const attempt = [&](auto const& work) {
            try {
              work();
            } catch (...) {
              if (!failure) failure = std::current_exception();
            }
          };
          attempt([&] { task(*side_, p); });
          attempt([&] { side_->synchronize(); });  // whatever happened: now nobody reads the slot any more
          {
            std::lock_guard lock(mutex_);
            s.busy = false;
          }
          if (failure) std::rethrow_exception(failure);
        },
        &s);
  }

  /// Runs task(side) after everything that was given before, while the caller waits.
  /// errors  what it throws, here and only here
  template <class Task>
  void run(Task const& task) {
    std::exception_ptr failure;
    push([this, &task, &failure] {
      try {
        task(*side_);
        side_->synchronize();
      } catch (...) {
        failure = std::current_exception();
      }
    });
    join();
    if (failure) std::rethrow_exception(failure);
  }

  /// Waits until nothing is left to do, on the thread and on its stream.
  /// errors  what a task threw
  void join() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.empty() && !running_; });
    if (failure_) std::rethrow_exception(failure_);
  }

  /// Host memory that copies fast, for tasks only.
  std::byte* pinned(index_t bytes) {
    if (pinned_bytes_ < bytes) {
      pinned_ = side_->template allocate_host<std::byte>(bytes);
      pinned_bytes_ = bytes;
    }
    return pinned_.get();
  }

 private:
  slot& free_slot() {
    std::unique_lock lock(mutex_);
    slot* found = nullptr;
    changed_.wait(lock, [&] {
      for (auto& s : slots_)
        if (!s->busy) found = s.get();
      return found || failure_;
    });
    if (failure_) std::rethrow_exception(failure_);
    return *found;
  }
  void push(std::function<void()> task, slot* taken = nullptr) {
    {
      std::lock_guard lock(mutex_);
      if (failure_) std::rethrow_exception(failure_);
      tasks_.push_back(std::move(task));
      if (taken) taken->busy = true;
    }
    changed_.notify_all();
  }
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      running_ = true;
      bool const skip = failure_ != nullptr;
      lock.unlock();
      std::exception_ptr failure;
      if (!skip) try {
          side_->attach_thread();
          task();
        } catch (...) {
          failure = std::current_exception();
        }
      task = nullptr;  // what it held is given back before anyone hears that it is done
      lock.lock();
      if (failure) failure_ = failure;
      running_ = false;
      changed_.notify_all();
    }
  }
};

}  // namespace loraga

#pragma once
#include <loraga/gradient/host_panels.hpp>

namespace loraga {

/// A host thread with a backend of its own, for work beside the training loop; on a GPU that is a second stream. Tasks
/// run in the order they were given. What a task reads is first copied, on the training's stream, into a slot of device
/// memory. So the training may overwrite its buffers at once. The training's stream never waits; the host waits only
/// where all slots are full. An exception of submitted work ends all of it: every later call throws
/// it. It serves one training thread. It must outlive what it works for, and the training's stream must outlive it.
/// Tasks must not call run or join, which would wait for themselves. What is to end in host memory goes there through
/// two pinned buffers (submit_home): one is filled while threads of the host work on the other.
/// cost    per call one copy of the data on the training's stream
/// memory  slots * the largest data handed over in one call; pinned, twice the largest panel that went home
/// errors  value_error if slots < 1 or host_threads < 0
template <ForkableBackend B>
class background_worker {
  struct slot {
    matrix<std::byte, B> memory;
    typename B::event filled;
    bool busy = false;
  };

  std::unique_ptr<B> side_;
  std::vector<std::unique_ptr<slot>> slots_;
  detail::host_panels<B> panels_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::exception_ptr failure_;
  bool running_ = false, stop_ = false;
  std::thread thread_;

 public:
  /// `host_threads` work on what went home; 0 means half of the machine's, at most 8. They start when first needed.
  explicit background_worker(B const& be, int slots = 2, int host_threads = 0)
      : panels_(host_threads > 0 ? host_threads : usual_threads()) {
    require_value(slots >= 1, slots, "background_worker", "slots", "at least 1");
    require_value(host_threads >= 0, host_threads, "background_worker", "host_threads", "at least 0");
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
    hand_over(be, bytes, stage, [this, task](slot& s) {
      attempts once;
      once([&] { task(*side_, s.memory.view().data); });
      once([&] { side_->synchronize(); });  // whatever happened: now nobody reads the slot any more
      free(s);
      once.rethrow();
    });
  }

  /// The same for what goes home: fetch(side, p, home) asks `side` for a copy from p to pinned memory of as many bytes.
  /// work(home, part, parts) then does one of `parts` parts of what is left to do, on threads of the host; they must
  /// share no results. Panels are worked on in the order they were given, while later ones are fetched.
  template <class Stage, class Fetch, class Work>
  void submit_home(B& be, index_t bytes, Stage const& stage, Fetch fetch, Work work) {
    hand_over(be, bytes, stage, [this, bytes, fetch, work](slot& s) {
      attempts once;
      typename detail::host_panels<B>::buffer* home = nullptr;
      once([&] {
        home = &panels_.take(*side_, bytes);
        fetch(*side_, s.memory.view().data, home->memory.get());
      });
      once([&] { side_->synchronize(); });
      free(s);
      if (once.failed() && home) panels_.give_back(*home);
      once.rethrow();
      panels_.arrived(*side_, *home, bytes,
                      [work, at = home->memory.get()](index_t part, index_t parts) { work(at, part, parts); });
    });
  }

  /// Runs task(side) after everything that was given before, while the caller waits.
  /// errors  what it throws, here and only here
  template <class Task>
  void run(Task const& task) {
    std::exception_ptr failure;
    push([this, &task, &failure] {
      try {
        panels_.drain();
        task(*side_);
        side_->synchronize();
      } catch (...) {
        failure = std::current_exception();
      }
    });
    join();
    if (failure) std::rethrow_exception(failure);
  }

  /// Waits until nothing is left to do, on the thread, on its stream and on the host's threads.
  /// errors  what a task threw
  void join() {
    std::exception_ptr failure;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return tasks_.empty() && !running_; });
      failure = failure_;
    }
    attempts once;
    once([&] { panels_.drain(); });  // also after a failure: what arrived before it is still worked on
    if (failure) std::rethrow_exception(failure);
    once.rethrow();
  }

 private:
  /// Runs one thing after the other, whether or not those before failed, and keeps the first exception.
  class attempts {
    std::exception_ptr failure_;

   public:
    template <class Work>
    void operator()(Work const& work) {
      try {
        work();
      } catch (...) {
        if (!failure_) failure_ = std::current_exception();
      }
    }
    bool failed() const { return failure_ != nullptr; }
    void rethrow() const {
      if (failure_) std::rethrow_exception(failure_);
    }
  };

  static int usual_threads() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 2, 1, 8); }
  /// stage(p) on the caller's backend, then then(slot) on the worker's thread, which frees the slot.
  template <class Stage, class Then>
  void hand_over(B& be, index_t bytes, Stage const& stage, Then then) {
    slot& s = free_slot();
    if (s.memory.rows() < bytes) s.memory = matrix<std::byte, B>(be, bytes, 1);
    stage(s.memory.view().data);
    be.record(s.filled);
    push(
        [this, &s, then] {
          side_->wait(s.filled);
          then(s);
        },
        &s);
  }
  void free(slot& s) {
    {
      std::lock_guard lock(mutex_);
      s.busy = false;
    }
    changed_.notify_all();
  }
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

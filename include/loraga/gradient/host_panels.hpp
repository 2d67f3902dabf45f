#pragma once
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <loraga/concepts.hpp>
#include <mutex>
#include <thread>
#include <vector>

namespace loraga::detail {

/// Two buffers of host memory that copies fast, and threads that work on what arrived in them: while one is worked on,
/// the other can be filled. Panels are worked on one after the other, each cut into parts that share no results, so
/// what comes out does not depend on the number of threads. An exception of a part ends all work.
/// memory  two panels of the largest size
template <class B>
class host_panels {
 public:
  /// work(part, parts) does one part of a panel's work.
  using work = std::function<void(index_t, index_t)>;
  /// Where a panel lies.
  struct buffer {
    decltype(std::declval<B&>().template allocate_host<std::byte>(1)) memory{};  ///< of `bytes`
    index_t bytes = 0;                                                           ///< that it holds
    bool busy = false;                                                           ///< being filled, or worked on
  };

 private:
  struct panel {
    buffer* in;
    work task;
    index_t parts, next = 0, done = 0;
  };
  static constexpr index_t part_bytes = index_t{1} << 18;
  int const wanted_;
  buffer buffers_[2];
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<panel> panels_;  // the first one is worked on
  std::exception_ptr failure_;
  bool stop_ = false;
  std::vector<std::thread> threads_;  // started when first needed

 public:
  explicit host_panels(int threads) : wanted_(threads) {}
  /// Finishes what was given.
  ~host_panels() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& t : threads_) t.join();
  }
  host_panels(host_panels const&) = delete;
  host_panels& operator=(host_panels const&) = delete;

  /// A buffer of at least that many bytes, to be filled; waits until one is free.
  /// errors  what a part threw; what allocation throws
  buffer& take(B& be, index_t bytes) {
    std::unique_lock lock(mutex_);
    buffer* found = nullptr;
    changed_.wait(lock, [&] {
      for (auto& b : buffers_)
        if (!b.busy && (!found || b.bytes > found->bytes)) found = &b;
      return found || failure_;
    });
    if (failure_) std::rethrow_exception(failure_);
    if (found->bytes < bytes) {
      found->bytes = 0;
      found->memory = be.template allocate_host<std::byte>(bytes);
      found->bytes = bytes;
    }
    found->busy = true;
    return *found;
  }
  /// Gives back a buffer that could not be filled.
  void give_back(buffer& b) {
    {
      std::lock_guard lock(mutex_);
      b.busy = false;
    }
    changed_.notify_all();
  }
  /// The buffer holds `bytes` of a panel: works on it beside the caller, and then gives it back. `be` must outlive
  /// this.
  void arrived(B const& be, buffer& b, index_t bytes, work task) {
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(threads_.size()) < wanted_) threads_.emplace_back([this, &be] { serve(be); });
      panels_.push_back({&b, std::move(task), std::max<index_t>(1, (bytes + part_bytes - 1) / part_bytes)});
    }
    changed_.notify_all();
  }
  /// Waits until all that arrived has been worked on.
  /// errors  what a part threw
  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return panels_.empty(); });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void serve(B const& be) {
    std::exception_ptr failure;
    try {
      be.attach_thread();  // what a task held may be given back here
    } catch (...) {
      failure = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    for (;;) {
      auto const open = [&] { return !panels_.empty() && panels_.front().next < panels_.front().parts; };
      changed_.wait(lock, [&] { return open() || (stop_ && panels_.empty()); });
      if (!open()) return;
      auto& mine = panels_.front();  // stays where it is until its last part is done
      index_t const part = mine.next++;
      bool const skip = failure_ != nullptr;
      lock.unlock();
      if (!skip) try {
          mine.task(part, mine.parts);
        } catch (...) {
          failure = std::current_exception();
        }
      lock.lock();
      if (failure && !failure_) failure_ = std::exchange(failure, nullptr);
      if (++mine.done < mine.parts) continue;
      mine.task = nullptr;  // what it held is given back before anyone hears that it is done
      mine.in->busy = false;
      panels_.pop_front();
      changed_.notify_all();
    }
  }
};

}  // namespace loraga::detail

#pragma once
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <loraga/backend/thread_pool.hpp>
#include <mutex>
#include <string>

namespace training {

/// Runs jobs side by side and reports how far they are: a live line on a terminal, a line per finished job elsewhere.
class job_board {
  int threads_;
  std::mutex mutex_;
  std::size_t done_ = 0, total_ = 0;
  std::chrono::steady_clock::time_point began_;
  bool const live_ = isatty(fileno(stdout));

 public:
  explicit job_board(int threads) : threads_(threads) {}
  int threads() const { return threads_; }

  /// work(i, worker) for every i < n; a job's exception ends the batch and is thrown here.
  void run(std::size_t n, std::function<void(std::size_t, int)> const& work) {
    done_ = 0;
    total_ = n;
    began_ = std::chrono::steady_clock::now();
    loraga::thread_pool pool(threads_ - 1);
    std::atomic<std::size_t> next{0};  // the pool deals out shares; jobs are to begin in their order
    pool.run(static_cast<loraga::index_t>(n), [&](loraga::index_t, int worker) { work(next++, worker); });
    if (live_) std::printf("\r%*s\r", 78, "");
  }
  void update(std::string const& what, long long step, double loss) {
    if (!live_) return;
    std::lock_guard lock(mutex_);
    std::printf("\r%-78.78s",
                (counter() + what + " step " + std::to_string(step) + " loss " + std::to_string(loss)).c_str());
    std::fflush(stdout);
  }
  void finished(std::string const& what) {
    std::lock_guard lock(mutex_);
    ++done_;
    double const spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    char left[48];
    std::snprintf(left, sizeof left, ", about %.0f s left",
                  spent / static_cast<double>(done_) * static_cast<double>(total_ - done_));
    std::printf(live_ ? "\r%-78.78s" : "%s\n", (counter() + what + left).c_str());
    std::fflush(stdout);
  }

 private:
  std::string counter() const { return "[" + std::to_string(done_) + "/" + std::to_string(total_) + "] "; }
};

}  // namespace training

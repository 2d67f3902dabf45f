#pragma once
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace tools {

struct interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline volatile std::sig_atomic_t signal_seen = 0;

/// From here on Ctrl-C and its like end the work where it is next safe: destructors then take unfinished files away.
/// A second one ends the program at once.
inline void watch_signals() {
  for (int const number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    sigaction(number, nullptr, &now);
    if (now.sa_handler == SIG_IGN) continue;  // nohup, background jobs
    now.sa_handler = [](int n) { signal_seen = n; };
    now.sa_flags = SA_RESETHAND | SA_RESTART;
    sigaction(number, &now, nullptr);
  }
}
inline void check_signals() {
  if (signal_seen) throw interrupted("interrupted; no file was written or changed");
}

/// How far a loop is, on standard error: a live bar on a terminal, a line every ten seconds elsewhere.
class progress {
  using clock = std::chrono::steady_clock;
  std::string what_;
  std::size_t done_ = 0, total_;
  clock::time_point began_ = clock::now(), shown_ = began_;
  bool const live_ = isatty(fileno(stderr));

 public:
  progress(std::string what, std::size_t total) : what_(std::move(what)), total_(total) {}
  ~progress() {
    if (live_) std::fprintf(stderr, "\r%*s\r", 100, "");
  }
  progress(progress const&) = delete;
  progress& operator=(progress const&) = delete;

  /// One more is done.  errors  interrupted
  void step() {
    check_signals();
    ++done_;
    auto const now = clock::now();
    auto const since = [&](clock::time_point t) { return std::chrono::duration<double>(now - t).count(); };
    if (since(shown_) < (live_ ? 0.1 : 10.0)) return;
    shown_ = now;
    double const share = static_cast<double>(done_) / static_cast<double>(total_);
    std::string bar(static_cast<std::size_t>(30 * share), '#');
    bar.resize(30, '.');
    std::fprintf(stderr,
                 live_ ? "\r%s [%s] %zu of %zu, about %.0f s left   " : "%s [%s] %zu of %zu, about %.0f s left\n",
                 what_.c_str(), bar.c_str(), done_, total_, since(began_) * (1 / share - 1));
    std::fflush(stderr);
  }
};

}  // namespace tools

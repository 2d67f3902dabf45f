#pragma once
#include <condition_variable>
#include <exception>
#include <loraga/distributed/communicator.hpp>
#include <loraga/linalg/reductions.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <thread>

namespace loraga {

namespace detail {

/// What the ranks of a loop-back group share.
struct loopback_meeting {
  std::mutex lock;
  std::condition_variable changed;
  std::vector<std::span<std::byte const>> offers;                             // of this round
  std::map<std::pair<int, int>, std::queue<std::vector<std::byte>>> letters;  // from one to another
  int size, arrived = 0, left = 0;
  bool open = true;      // to those that arrive; else those that are here read
  std::string sentence;  // why nobody can go on

  explicit loopback_meeting(int n) : offers(static_cast<std::size_t>(n)), size(n) {}
  void fail(std::string const& words) {
    std::lock_guard const hold(lock);
    if (sentence.empty()) sentence = words;
    changed.notify_all();
  }
  template <class F>
  void wait(std::unique_lock<std::mutex>& hold, F const& until) {
    changed.wait(hold, [&] { return until() || !sentence.empty(); });
    if (!until()) throw rank_error(sentence);  // a round that is complete counts, though one has gone since
  }
};

}  // namespace detail

/// Ranks that are threads of one process, for tests and for looking at a distributed program in a debugger. Data go
/// through host memory.
///   loopback_group(4).run([](loopback_communicator& comm) { cpu be(1); ... });
class loopback_communicator {
 public:
  loopback_communicator(std::shared_ptr<detail::loopback_meeting> all, int rank) : all_(std::move(all)), rank_(rank) {}
  int rank() const { return rank_; }
  int size() const { return all_->size; }

  template <Backend B>
  void all_reduce(B& be, float* data, index_t n) {
    sum(be, data, n);
  }
  template <Backend B>
  void all_reduce(B& be, double* data, index_t n) {
    sum(be, data, n);
  }
  template <Backend B>
  void broadcast(B& be, std::byte* data, index_t n, int root) {
    auto const host = to_host(be, data, rank_ == root ? n : 0);
    meet(host, [&](auto const& offers) {
      auto const theirs = offers[static_cast<std::size_t>(root)];
      require_size(theirs.size(), n, "broadcast", root);
      to_backend(be, theirs.data(), data, n);
    });
  }
  template <Backend B>
  void exchange(B& be, std::byte const* from, index_t n_from, std::byte* to, index_t n_to, int partner) {
    auto mine = to_host(be, from, n_from);
    auto& m = *all_;
    std::unique_lock hold(m.lock);
    m.letters[{rank_, partner}].push(std::move(mine));
    m.changed.notify_all();
    auto& box = m.letters[{partner, rank_}];
    m.wait(hold, [&] { return !box.empty(); });
    auto const theirs = std::move(box.front());
    box.pop();
    hold.unlock();
    require_size(theirs.size(), n_to, "exchange", partner);
    to_backend(be, theirs.data(), to, n_to);
  }
  template <Backend B>
  std::vector<std::vector<std::byte>> all_gather(B&, std::span<std::byte const> bytes) {
    std::vector<std::vector<std::byte>> gathered;
    meet(bytes, [&](auto const& offers) {
      for (auto const& o : offers) gathered.emplace_back(o.begin(), o.end());
    });
    return gathered;
  }
  void abort(std::string const& sentence) {
    all_->fail(sentence);
    throw rank_error(sentence);
  }

 private:
  static void require_size(std::size_t bytes, index_t expected, char const* call, int from) {
    if (static_cast<index_t>(bytes) != expected)
      raise<shape_error>(std::string("loopback_communicator::") + call, "what rank " + std::to_string(from) + " sends",
                         std::to_string(bytes) + " bytes", std::to_string(expected));
  }
  /// Lays `mine` open to all, calls read(all that is laid open), and leaves when all have read.
  template <class F>
  void meet(std::span<std::byte const> mine, F const& read) {
    auto& m = *all_;
    std::unique_lock hold(m.lock);
    m.wait(hold, [&] { return m.open && m.sentence.empty(); });
    m.offers[static_cast<std::size_t>(rank_)] = mine;
    if (++m.arrived == m.size) {
      m.open = false;
      m.changed.notify_all();
    }
    try {
      m.wait(hold, [&] { return !m.open; });
    } catch (rank_error const&) {  // the round will never be complete
      --m.arrived;
      m.offers[static_cast<std::size_t>(rank_)] = {};
      throw;
    }
    hold.unlock();
    std::exception_ptr failed;
    try {
      read(m.offers);
    } catch (...) {
      failed = std::current_exception();
    }
    hold.lock();
    if (++m.left == m.size) {
      m.arrived = m.left = 0;
      m.open = true;
      m.changed.notify_all();
    }
    m.wait(hold, [&] { return m.open; });  // what was laid open may go
    if (failed) std::rethrow_exception(failed);
  }
  template <Backend B>
  static std::vector<std::byte> to_host(B& be, std::byte const* data, index_t n) {
    return read_all(be, matrix_view<std::byte const, typename B::space>(data, n, n > 0 ? 1 : 0, 1, n));
  }
  template <Backend B>
  static void to_backend(B& be, std::byte const* host, std::byte* data, index_t n) {
    if (n == 0) return;
    be.copy(col_major(host, n, 1), matrix_view<std::byte, typename B::space>(data, n, 1, 1, n));
    be.synchronize();
  }
  template <Backend B, class T>
  void sum(B& be, T* data, index_t n) {
    auto const host = to_host(be, reinterpret_cast<std::byte const*>(data), n * static_cast<index_t>(sizeof(T)));
    std::vector<T> total(static_cast<std::size_t>(n));
    meet(host, [&](auto const& offers) {
      for (std::size_t r = 0; r < offers.size(); ++r)
        require_size(offers[r].size(), n * static_cast<index_t>(sizeof(T)), "all_reduce", static_cast<int>(r));
      for (auto const& o : offers)  // in the order of ranks
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += reinterpret_cast<T const*>(o.data())[i];
    });
    to_backend(be, reinterpret_cast<std::byte const*>(total.data()), reinterpret_cast<std::byte*>(data),
               n * static_cast<index_t>(sizeof(T)));
  }

  std::shared_ptr<detail::loopback_meeting> all_;
  int rank_;
};

/// A group of such ranks.
class loopback_group {
  int size_;

 public:
  /// errors  value_error for a size below 1
  explicit loopback_group(int size) : size_(size) {
    require_value(size >= 1, size, "loopback_group", "size", "at least 1");
  }
  /// Calls f(communicator) on a thread for each rank. A rank that ends with an exception, or before the others, ends
  /// them all.
  /// errors  what the first rank to fail threw
  template <class F>
  void run(F const& f) const {
    auto const all = std::make_shared<detail::loopback_meeting>(size_);
    std::exception_ptr failure;
    std::vector<std::thread> threads;
    for (int r = 0; r < size_; ++r)
      threads.emplace_back([&, r] {
        try {
          loopback_communicator comm(all, r);
          f(comm);
        } catch (...) {
          std::lock_guard const hold(all->lock);
          if (!failure) failure = std::current_exception();
        }
        all->fail("rank " + std::to_string(r) + " of " + std::to_string(size_) + " is gone");
      });
    for (auto& t : threads) t.join();
    if (failure) std::rethrow_exception(failure);
  }
};

}  // namespace loraga

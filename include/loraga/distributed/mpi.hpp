#pragma once
#include <algorithm>
#include <cstdio>
#include <exception>
#include <limits>
#include <loraga/distributed/communicator.hpp>
#ifndef OMPI_SKIP_MPICXX  // MPI's old C++ interface, which older versions bring unasked
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

namespace loraga {

/// MPI for the length of a program: MPI_Init at the start, MPI_Finalize at the end. A program that ends by an exception
/// that not all ranks know ends the job.
class mpi_session {
 public:
  /// errors  state_error if MPI runs already: then whoever started it ends it
  mpi_session(int& argc, char**& argv) {
    int runs = 0;
    MPI_Initialized(&runs);
    if (runs) raise<state_error>("mpi_session", "MPI", "initialised already", "not: whoever did it ends it");
    int provided = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    if (provided >= MPI_THREAD_FUNNELED) return;
    MPI_Finalize();
    raise<state_error>("mpi_session", "MPI", "one for programs without threads", "at least MPI_THREAD_FUNNELED");
  }
  mpi_session(mpi_session const&) = delete;
  mpi_session& operator=(mpi_session const&) = delete;
  ~mpi_session() {
    if (std::uncaught_exceptions() > 0) MPI_Abort(MPI_COMM_WORLD, 1);
    else MPI_Finalize();
  }
};

/// The ranks of an MPI communicator, in a duplicate of it, so that no message meets the program's own. Calls are made
/// by the thread that MPI knows. Where the backend's memory is no host memory, data go through host memory.
/// errors  a call of MPI that fails ends the job, as MPI has it by default
class mpi_communicator {
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  static constexpr index_t most = index_t{1} << 28;  // numbers per call: MPI counts in int

 public:
  explicit mpi_communicator(MPI_Comm ranks = MPI_COMM_WORLD) {
    MPI_Comm_dup(ranks, &comm_);
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_ARE_FATAL);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  mpi_communicator(mpi_communicator const&) = delete;
  mpi_communicator& operator=(mpi_communicator const&) = delete;
  ~mpi_communicator() {
    int over = 0;
    MPI_Finalized(&over);
    if (!over && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
  }
  int rank() const { return rank_; }
  int size() const { return size_; }

  template <Backend B>
  void all_reduce(B& be, float* data, index_t n) {
    sum(be, data, n, MPI_FLOAT);
  }
  template <Backend B>
  void all_reduce(B& be, double* data, index_t n) {
    sum(be, data, n, MPI_DOUBLE);
  }
  template <Backend B>
  void broadcast(B& be, std::byte* data, index_t n, int root) {
    through_host(be, data, n, rank_ == root, rank_ != root, [&](std::byte* host) {
      in_parts(n, [&](index_t at, int part) { MPI_Bcast(host + at, part, MPI_BYTE, root, comm_); });
    });
  }
  template <Backend B>
  void exchange(B& be, std::byte const* from, index_t n_from, std::byte* to, index_t n_to, int partner) {
    through_host(be, const_cast<std::byte*>(from), n_from, true, false, [&](std::byte* out) {
      through_host(be, to, n_to, false, true, [&](std::byte* in) {
        in_parts(std::max(n_from, n_to), [&](index_t at, int) {
          auto const part = [&](index_t n) { return static_cast<int>(std::clamp<index_t>(n - at, 0, most)); };
          MPI_Sendrecv(out + std::min(at, n_from), part(n_from), MPI_BYTE, partner, 1, in + std::min(at, n_to),
                       part(n_to), MPI_BYTE, partner, 1, comm_, MPI_STATUS_IGNORE);
        });
      });
    });
  }
  /// errors  shape_error for more than 2 GiB in all
  template <Backend B>
  std::vector<std::vector<std::byte>> all_gather(B&, std::span<std::byte const> bytes) {
    auto const ranks = static_cast<std::size_t>(size_);
    std::vector<long long> sizes(ranks);
    auto const mine = static_cast<long long>(bytes.size());
    MPI_Allgather(&mine, 1, MPI_LONG_LONG, sizes.data(), 1, MPI_LONG_LONG, comm_);
    std::vector<int> counts, starts;
    long long total = 0;
    for (auto const n : sizes) {
      counts.push_back(static_cast<int>(n));
      starts.push_back(static_cast<int>(total));
      total += n;
      if (total > std::numeric_limits<int>::max())
        raise<shape_error>("mpi_communicator::all_gather", "bytes", "more than 2 GiB in all", "a few");
    }
    std::vector<std::byte> all(static_cast<std::size_t>(total));
    MPI_Allgatherv(bytes.data(), static_cast<int>(mine), MPI_BYTE, all.data(), counts.data(), starts.data(), MPI_BYTE,
                   comm_);
    std::vector<std::vector<std::byte>> parts;
    for (std::size_t r = 0; r < ranks; ++r)
      parts.emplace_back(all.begin() + starts[r], all.begin() + starts[r] + counts[r]);
    return parts;
  }
  [[noreturn]] void abort(std::string const& sentence) {
    std::fprintf(stderr, "%s\n", sentence.c_str());
    std::fflush(stderr);
    MPI_Abort(comm_, 1);
    std::terminate();
  }

 private:
  template <class F>
  static void in_parts(index_t n, F const& call) {
    for (index_t at = 0; at < n; at += most) call(at, static_cast<int>(std::min(most, n - at)));
  }
  /// Calls f(host memory that holds the data), and brings back what is there then.
  template <class B, class E, class F>
  static void through_host(B& be, E* data, index_t n, bool in, bool out, F const& f) {
    if constexpr (std::is_same_v<typename B::space, host_space>) {
      be.synchronize();
      f(data);
    } else {
      auto const host = be.template allocate_host<E>(n);
      matrix_view<E, typename B::space> const there(data, n, n > 0 ? 1 : 0, 1, n);
      if (in) be.copy(matrix_view<E const, typename B::space>(there), col_major(host.get(), n, there.cols));
      be.synchronize();
      f(host.get());
      if (!out) return;
      be.copy(col_major(static_cast<E const*>(host.get()), n, there.cols), there);
      be.synchronize();
    }
  }
  template <class B, class T>
  void sum(B& be, T* data, index_t n, MPI_Datatype type) {
    through_host(be, data, n, true, true, [&](T* host) {
      in_parts(n, [&](index_t at, int part) { MPI_Allreduce(MPI_IN_PLACE, host + at, part, type, MPI_SUM, comm_); });
    });
  }
};

}  // namespace loraga

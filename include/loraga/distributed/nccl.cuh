#pragma once
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <loraga/backend/cuda.cuh>
#include <loraga/distributed/agreement.hpp>
#include <memory>
#include <thread>

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 13, 0), "loraga: NCCL 2.13 or newer is needed");

namespace loraga {

namespace gpu {

/// Throws backend_error, naming the call, unless its status is success.
inline void check(ncclResult_t e, char const* call) {
  if (e == ncclSuccess) return;
  std::string meaning = ncclGetErrorString(e);
  if (char const* const more = ncclGetLastError(nullptr); more && *more) meaning += std::string("; ") + more;
  raise_status(call, e, meaning);
}

}  // namespace gpu

/// The ranks of an NCCL communicator, one GPU each. Data stay on the device. Calls are asynchronous on the backend's
/// stream; only all_gather waits, for that stream and for the other ranks.
///   mpi_communicator processes;
///   cudaSetDevice(rank on this machine); cuda be;
///   nccl_communicator comm(be, processes);
/// NCCL sums in an order that it chooses by size, ranks and machine. NCCL_ALGO=Ring in the environment fixes it, where
/// other machines or versions have to give the same bits.
/// errors  backend_error naming the NCCL call that failed. What fails while other ranks wait for this one ends the
///         process, as does abort: NCCL cannot tell the others, and an exception could be caught. mpirun, srun
///         (--kill-on-bad-exit) and torchrun end all ranks where one ends by an error
class nccl_communicator {
  struct end {
    void operator()(ncclComm_t comm) const {
      if (std::uncaught_exceptions() > 0) ncclCommAbort(comm);  // what is under way may never be done
      else ncclCommDestroy(comm);
    }
  };
  std::unique_ptr<ncclComm, end> owned_;
  ncclComm_t comm_ = nullptr;
  int rank_ = 0, size_ = 1;

 public:
  /// Borrows a communicator that blocks (NCCL's default). It must outlive this object.
  explicit nccl_communicator(ncclComm_t borrowed) : comm_(borrowed) { look(); }

  /// Makes one of the same ranks as `other`, which may be an mpi_communicator, for the device that is current. All
  /// ranks call it, and wait for each other.
  /// errors  rank_error, the same on every rank, where one could not begin. One that NCCL refuses after that, such as a
  ///         second rank on one GPU, ends the job by other.abort
  template <Communicator<cuda> C>
  nccl_communicator(cuda& be, C& other) {
    together(be, other, [&] {
      ncclUniqueId id{};
      if (other.rank() == 0) gpu::check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      auto const brought =
          agree(be, other, "nccl_communicator", {}, std::string(reinterpret_cast<char const*>(&id), sizeof id));
      std::memcpy(&id, brought[0].data(), sizeof id);
      detail::move_data(other, [&] {
        gpu::check(ncclCommInitRank(&comm_, other.size(), id, other.rank()), "ncclCommInitRank");
        owned_.reset(comm_);
      });
    });
    look();
  }

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// NCCL's own.
  ncclComm_t get() const { return comm_; }

  void all_reduce(cuda& be, float* data, index_t n) { sum(be, data, n, ncclFloat); }
  void all_reduce(cuda& be, double* data, index_t n) { sum(be, data, n, ncclDouble); }
  void broadcast(cuda& be, std::byte* data, index_t n, int root) {
    if (n == 0) return;
    gpu::check(ncclBroadcast(data, data, count(n), ncclChar, root, comm_, be.stream()), "ncclBroadcast");
  }
  void exchange(cuda& be, std::byte const* from, index_t n_from, std::byte* to, index_t n_to, int partner) {
    gpu::check(ncclGroupStart(), "ncclGroupStart");
    auto sent = ncclSuccess, received = ncclSuccess;
    if (n_from > 0) sent = ncclSend(from, count(n_from), ncclChar, partner, comm_, be.stream());
    if (n_to > 0) received = ncclRecv(to, count(n_to), ncclChar, partner, comm_, be.stream());
    auto const ended = ncclGroupEnd();  // in any case: a group that stays open takes later calls in
    gpu::check(sent, "ncclSend");
    gpu::check(received, "ncclRecv");
    gpu::check(ended, "ncclGroupEnd");
  }
  /// Through scratch memory of the device: lengths first, then all ranks' bytes at the length of the longest.
  std::vector<std::vector<std::byte>> all_gather(cuda& be, std::span<std::byte const> bytes) {
    auto const lengths = all_ranks(be, std::vector<index_t>{static_cast<index_t>(bytes.size())});
    auto const longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
    std::vector<std::byte> all;
    detail::move_data(*this, [&] {  // the others wait now
      std::vector<std::byte> mine(bytes.begin(), bytes.end());
      mine.resize(longest);
      if (longest > 0) all = all_ranks(be, mine);
    });
    std::vector<std::vector<std::byte>> parts;
    for (std::size_t r = 0; r < lengths.size(); ++r) {
      auto const* const first = all.data() + r * longest;
      parts.emplace_back(first, first + lengths[r]);
    }
    return parts;
  }
  [[noreturn]] void abort(std::string const& sentence) {
    std::fprintf(stderr, "%s\n", sentence.c_str());
    std::fflush(stderr);
    std::_Exit(EXIT_FAILURE);  // no destructor: it could wait for messages that never come
  }

 private:
  static std::size_t count(index_t n) { return static_cast<std::size_t>(n); }
  void look() {
    gpu::check(ncclCommUserRank(comm_, &rank_), "ncclCommUserRank");
    gpu::check(ncclCommCount(comm_, &size_), "ncclCommCount");
  }
  template <class T>
  void sum(cuda& be, T* data, index_t n, ncclDataType_t type) {
    if (n == 0) return;
    gpu::check(ncclAllReduce(data, data, count(n), type, ncclSum, comm_, be.stream()), "ncclAllReduce");
  }
  /// All ranks' numbers, as many of each, in the order of ranks. What fails before they are sent is an exception.
  template <class T>
  std::vector<T> all_ranks(cuda& be, std::vector<T> const& mine) {
    auto const n = static_cast<index_t>(mine.size());
    std::vector<T> all(mine.size() * count(size_));
    scratch<cuda> temporary(be);
    auto const there = temporary.template matrix<T>(n, size_);
    be.copy(col_major(mine.data(), n, 1), there.columns(rank_, 1));
    detail::move_data(*this, [&] {
      gpu::check(ncclAllGather(there.columns(rank_, 1).data, there.data, mine.size() * sizeof(T), ncclChar, comm_,
                               be.stream()),
                 "ncclAllGather");
      wait(be);
      be.copy(matrix_view<T const, device_space>(there), col_major(all.data(), n, size_));
      be.synchronize();
    });
    return all;
  }
  /// Waits for the stream, or for NCCL to notice that another rank is gone.
  void wait(cuda& be) {
    for (;;) {
      auto const state = cudaStreamQuery(be.stream());
      if (state != cudaErrorNotReady) return gpu::check(state, "cudaStreamQuery");
      (void)cudaGetLastError();  // not ready is no error
      auto noticed = ncclSuccess;
      gpu::check(ncclCommGetAsyncError(comm_, &noticed), "ncclCommGetAsyncError");
      gpu::check(noticed, "ncclAllGather, which waits for the other ranks");
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
};

static_assert(Communicator<nccl_communicator, cuda>);

}  // namespace loraga

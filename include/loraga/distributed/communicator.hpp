#pragma once
#include <loraga/concepts.hpp>
#include <span>
#include <string>
#include <vector>

namespace loraga {

/// One of several ranks, processes or threads, that work on one model. Every rank makes the same calls in the same
/// order. Data lie in the backend's memory, and are ready when what the backend was asked for before is done; what it
/// is asked for afterwards sees the result. A framework's own process group becomes one by a class of forty lines: see
/// docs/ranks.md.
template <class C, class B>
concept Communicator = Backend<B> &&
    requires(C& comm, C const& constant, B& be, float* f, double* d, std::byte* to, std::byte const* from, index_t n,
             int rank, std::span<std::byte const> bytes, std::string const& sentence) {
  { constant.rank() } -> std::same_as<int>;  // 0 .. size() - 1
  { constant.size() } -> std::same_as<int>;
  // n numbers become the sum of all ranks': the same bits on every rank, and from run to run
  { comm.all_reduce(be, f, n) } -> std::same_as<void>;
  { comm.all_reduce(be, d, n) } -> std::same_as<void>;
  // n bytes become those of rank `root`
  { comm.broadcast(be, to, n, rank) } -> std::same_as<void>;
  // n bytes to the partner and n from it; 0 for nothing in that direction. The partner calls it at the same time
  { comm.exchange(be, from, n, to, n, rank) } -> std::same_as<void>;
  // a few bytes of host memory, of any length: all ranks', in the order of ranks
  { comm.all_gather(be, bytes) } -> std::same_as<std::vector<std::vector<std::byte>>>;
  // ends the job of all ranks with this sentence, because others wait for what will not come
  { comm.abort(sentence) } -> std::same_as<void>;
};

/// What every rank throws, in the same words, where one of them cannot go on, or does something else than the others.
struct rank_error : error {
  void const* known_to = nullptr;  ///< the communicator whose ranks all have it; null where some may not
  using error::error;
  rank_error(std::string const& sentence, void const* comm) : error(sentence), known_to(comm) {}
};

}  // namespace loraga

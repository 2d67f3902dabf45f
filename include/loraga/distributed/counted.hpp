#pragma once
#include <loraga/distributed/communicator.hpp>

namespace loraga {

/// What a communicator was asked for.
struct traffic {
  index_t messages = 0;  ///< all_reduce, broadcast, exchange
  index_t meetings = 0;  ///< all_gather: the few bytes by which ranks agree
  double sent = 0;       ///< bytes that leave this rank, where all ranks share the work as a ring does
};

/// A communicator that counts, around another one.
/// math    sent: all_reduce of n bytes 2*n*(1 - 1/ranks), broadcast n*(1 - 1/ranks) (each rank hands on what it got, but
///         the last), exchange what is given
template <class C>
class counted_communicator {
  C* comm_;
  double share_;

 public:
  traffic count;  ///< so far
  explicit counted_communicator(C& comm) : comm_(&comm), share_(1 - 1.0 / comm.size()) {}
  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  template <Backend B, class T>
  void all_reduce(B& be, T* data, index_t n) {
    comm_->all_reduce(be, data, n);
    add(2 * share_ * static_cast<double>(n) * sizeof(T));
  }
  template <Backend B>
  void broadcast(B& be, std::byte* data, index_t n, int root) {
    comm_->broadcast(be, data, n, root);
    add(share_ * static_cast<double>(n));
  }
  template <Backend B>
  void exchange(B& be, std::byte const* from, index_t n_from, std::byte* to, index_t n_to, int partner) {
    comm_->exchange(be, from, n_from, to, n_to, partner);
    add(static_cast<double>(n_from));
  }
  template <Backend B>
  std::vector<std::vector<std::byte>> all_gather(B& be, std::span<std::byte const> bytes) {
    ++count.meetings;
    return comm_->all_gather(be, bytes);
  }
  void abort(std::string const& sentence) { comm_->abort(sentence); }

 private:
  void add(double bytes) {
    ++count.messages;
    count.sent += bytes;
  }
};

}  // namespace loraga

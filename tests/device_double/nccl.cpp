#include <nccl.h>

#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <queue>

#include "streams.hpp"

// NCCL's double. Ranks are threads of this process; a call is done when it returns, so it waits for the other ranks.

using namespace device_double;

namespace device_double {

/// What the ranks of one id share.
struct nccl_group {
  std::mutex lock;
  std::condition_variable changed;
  int size = 0, arrived = 0;
  long round = 0;
  bool gone = false;                                                          // a rank was aborted
  std::vector<std::pair<void const*, std::string>> offers;                    // each rank's data, and what it calls
  std::map<std::pair<int, int>, std::queue<std::vector<std::byte>>> letters;  // from one to another

  /// Waits for all ranks; false if one of them is gone.
  bool meet() {
    std::unique_lock hold(lock);
    long const mine = round;
    if (++arrived == size) arrived = 0, ++round, changed.notify_all();
    changed.wait(hold, [&] { return round != mine || gone; });
    return round != mine;
  }
};
}  // namespace device_double
namespace {

std::mutex groups_lock;
std::map<std::string, std::shared_ptr<nccl_group>> groups;
thread_local int open_groups = 0;
thread_local std::vector<std::function<ncclResult_t()>> sends, receives;
thread_local ncclResult_t group_failure = ncclSuccess;
thread_local cudaStream_t last_stream = nullptr;

}  // namespace

struct ncclComm {
  std::shared_ptr<nccl_group> all;
  int rank = 0;
};
cudaStream_t device_double::nccl_stream() { return last_stream; }

namespace {

/// Whether a call can be: the communicator and the stream are alive, and n bytes are all of one allocation.
bool good(ncclComm_t comm, cudaStream_t stream, std::initializer_list<void const*> data, std::size_t n, int peer = 0) {
  last_stream = stream;
  bool const lives = alive(comm) && stream_alive(stream) && peer >= 0 && peer < comm->all->size;
  if (!lives) complain("the communicator or the stream is not alive, or there is no such rank");
  bool all = lives;
  for (auto const* p : data)
    if (!inside(where::device, p, n)) complain("data are not in one live device allocation"), all = false;
  if (lives) finish(stream);  // what the data come from; the call itself is done when it returns
  return all;
}

/// A call of all ranks at once: `into` becomes what make(everyone's data) returns. `what` must be the same on all.
template <class F>
ncclResult_t together(ncclComm_t comm, std::string const& what, void const* from, void* into, F const& make) {
  auto& g = *comm->all;
  g.offers[static_cast<std::size_t>(comm->rank)] = {from, what};
  if (!g.meet()) return ncclRemoteError;
  bool same = true;
  for (auto const& o : g.offers) same = same && o.second == what;
  if (!same) complain("ranks call different things, or with different counts: here " + what);
  auto const made = same ? make(g.offers) : std::vector<std::byte>();
  if (!g.meet()) return ncclRemoteError;  // all have read
  if (!made.empty()) std::memcpy(into, made.data(), made.size());
  return same ? ncclSuccess : ncclInvalidArgument;
}

template <class T>
std::vector<std::byte> sum_of(std::vector<std::pair<void const*, std::string>> const& offers, std::size_t n) {
  std::vector<T> sum(n);
  for (auto const& o : offers)
    for (std::size_t i = 0; i < n; ++i) sum[i] += static_cast<T const*>(o.first)[i];
  auto const* const p = reinterpret_cast<std::byte const*>(sum.data());
  return {p, p + n * sizeof(T)};
}
void append(std::vector<std::byte>& all, void const* from, std::size_t n) {
  all.insert(all.end(), static_cast<std::byte const*>(from), static_cast<std::byte const*>(from) + n);
}
/// The status a test asked for, else body's.
template <class F>
ncclResult_t asked_or(char const* function, F const& body) {
  int const asked = enter(function);
  return asked != 0 ? static_cast<ncclResult_t>(asked) : body();
}

/// A call that is kept until its group ends.
template <class F>
ncclResult_t grouped(char const* function, void const* data, std::size_t n, ncclDataType_t type, int peer,
                     ncclComm_t comm, cudaStream_t stream, std::vector<std::function<ncclResult_t()>>& calls,
                     F const& f) {
  auto const e = asked_or(function, [&] {
    if (open_groups == 0) complain("outside of a group two ranks that both send wait for ever");
    bool const right = open_groups > 0 && type == ncclChar && good(comm, stream, {data}, n, peer);
    return right ? (calls.push_back(f), ncclSuccess) : ncclInvalidArgument;
  });
  return e == ncclSuccess ? e : group_failure = e;
}

}  // namespace

extern "C" {

char const* ncclGetErrorString(ncclResult_t e) { return e == ncclRemoteError ? "another rank is gone" : "a failure"; }
char const* ncclGetLastError(ncclComm_t) { return "of the double"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static long made = 0;
  return asked_or(__func__,
                  [&] { return *id = {}, ++made, std::memcpy(id->internal, &made, sizeof made), ncclSuccess; });
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  return asked_or(__func__, [&] {
    *comm = create<ncclComm>();
    (*comm)->rank = rank;
    {
      std::lock_guard const hold(groups_lock);
      auto& g = groups[std::string(id.internal, sizeof id.internal)];
      if (!g) g = std::make_shared<nccl_group>();
      g->size = size;
      g->offers.resize(static_cast<std::size_t>(size));
      (*comm)->all = g;
    }
    return (*comm)->all->meet() ? ncclSuccess : ncclRemoteError;
  });
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return asked_or(__func__, [&] { return destroy(comm) ? ncclSuccess : ncclInvalidArgument; });
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return asked_or(__func__, [&] {
    std::lock_guard const hold(comm->all->lock);
    comm->all->gone = true;
    comm->all->changed.notify_all();
    return destroy(comm) ? ncclSuccess : ncclInvalidArgument;
  });
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* noticed) {
  return *noticed = static_cast<ncclResult_t>(enter(__func__)), ncclSuccess;  // a failure asked for is what it notices
}
ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  return asked_or(__func__, [&] { return *rank = comm->rank, ncclSuccess; });
}
ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  return asked_or(__func__, [&] { return *count = comm->all->size, ncclSuccess; });
}

ncclResult_t ncclAllReduce(void const* from, void* to, std::size_t n, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return asked_or(__func__, [&] {
    if ((type != ncclFloat && type != ncclDouble) || op != ncclSum) return ncclInvalidArgument;
    if (!good(comm, stream, {from, to}, n * (type == ncclFloat ? 4 : 8))) return ncclInvalidArgument;
    return together(
        comm, "AllReduce " + std::to_string(type) + " " + std::to_string(n), from, to,
        [&](auto const& all) { return type == ncclFloat ? sum_of<float>(all, n) : sum_of<double>(all, n); });
  });
}
ncclResult_t ncclBroadcast(void const* from, void* to, std::size_t n, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return asked_or(__func__, [&] {
    if (type != ncclChar || !good(comm, stream, {from, to}, n, root)) return ncclInvalidArgument;
    return together(comm, "Broadcast " + std::to_string(n) + " " + std::to_string(root), from, to,
                    [&](auto const& all) {
                      std::vector<std::byte> made;
                      append(made, all[static_cast<std::size_t>(root)].first, n);
                      return made;
                    });
  });
}
ncclResult_t ncclAllGather(void const* from, void* to, std::size_t n, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return asked_or(__func__, [&] {
    if (type != ncclChar || !good(comm, stream, {from}, n)) return ncclInvalidArgument;
    if (!good(comm, stream, {to}, n * comm->all->offers.size())) return ncclInvalidArgument;
    return together(comm, "AllGather " + std::to_string(n), from, to, [&](auto const& all) {
      std::vector<std::byte> made;
      for (auto const& o : all) append(made, o.first, n);
      return made;
    });
  });
}

ncclResult_t ncclGroupStart() {
  return asked_or(__func__, [] { return ++open_groups, ncclSuccess; });
}
ncclResult_t ncclSend(void const* from, std::size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return grouped(__func__, from, n, type, peer, comm, stream, sends, [=] {
    std::lock_guard const hold(comm->all->lock);
    append(comm->all->letters[{comm->rank, peer}].emplace(), from, n);
    return comm->all->changed.notify_all(), ncclSuccess;
  });
}
ncclResult_t ncclRecv(void* to, std::size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return grouped(__func__, to, n, type, peer, comm, stream, receives, [=] {
    auto& g = *comm->all;
    std::unique_lock hold(g.lock);
    auto& box = g.letters[{peer, comm->rank}];
    g.changed.wait(hold, [&] { return !box.empty() || g.gone; });
    if (box.empty()) return ncclRemoteError;
    auto const letter = std::move(box.front());
    box.pop();
    if (letter.size() != n) return complain("takes another number of bytes than was sent"), ncclInvalidArgument;
    return std::memcpy(to, letter.data(), n), ncclSuccess;
  });
}
ncclResult_t ncclGroupEnd() {
  auto first = static_cast<ncclResult_t>(enter(__func__));
  if (--open_groups > 0) return first;
  if (auto const failed = std::exchange(group_failure, ncclSuccess); failed != ncclSuccess) first = failed;
  for (auto* calls : {&sends, &receives})  // none of them where one failed
    for (auto const& call : std::exchange(*calls, {}))
      if (first == ncclSuccess) first = call();
  return first;
}

}  // extern "C"

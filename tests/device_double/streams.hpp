#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <utility>

#include "bookkeeping.hpp"

// When work runs that a call has handed to a stream.

namespace device_double {

struct queue;
/// A place in a stream's work: all that was handed over before it. Empty: nothing to wait for.
struct point {
  std::shared_ptr<queue> in;
  long position = 0;
};

bool is_dry();
bool is_delayed();

/// Where a stream's work ends now.
point end_of(cudaStream_t stream);
bool reached(point const& p);
/// Runs what is before that place, or before the end of a stream, or of all.
void finish(point const& p);
void finish(cudaStream_t stream);
void finish_all();
/// One more piece of a stream's work, if it has any.
void advance(cudaStream_t stream);

/// Later work of the stream runs after that.
void wait_for(cudaStream_t stream, point const& p);
void push(cudaStream_t stream, std::function<void()> work);

/// Runs `work` when the stream gets there; so it holds copies of what it needs. For what must happen dry as well.
template <class F>
void in_turn(cudaStream_t stream, F&& work) {
  if (is_delayed()) push(stream, std::forward<F>(work));
  else work();
}
/// The same for what the device computes.
template <class F>
void hand_over(cudaStream_t stream, F&& work) {
  if (!is_dry()) in_turn(stream, std::forward<F>(work));
}

/// Work of a library on operands that were good when it was called. They are looked at again at its turn: a fault then
/// breaks the device.
template <class F>
void hand_over(cudaStream_t stream, operands const& all, F&& work) {
  if (is_dry()) return;
  if (!is_delayed()) return work();
  push(stream, [=] {
    if (all.good(true)) work();
    else break_device(cudaErrorIllegalAddress);
  });
}
/// The same where the operands' addresses are in device memory: a kernel that has not run yet may have to write them.
template <class M, class F>
bool hand_over_listed(cudaStream_t stream, M const& members, F&& work) {
  if (is_dry()) return true;
  if (!is_delayed()) return members().good() && (work(), true);
  push(stream, [=] {
    if (members().good(true)) work();
    else break_device(cudaErrorIllegalAddress);
  });
  return true;
}

/// The queue of a new stream; work of a destroyed one is finished all the same.
std::shared_ptr<queue> new_queue(bool blocking);

}  // namespace device_double

struct CUstream_st {
  std::shared_ptr<device_double::queue> work;
};

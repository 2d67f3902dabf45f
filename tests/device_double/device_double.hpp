#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

// A CPU double of the parts of the CUDA runtime, cuBLAS, cuSOLVER and NCCL that the library calls, linked in their
// place. What a call is given is checked more strictly than on a GPU. Its work runs at once, which is one legal
// schedule, or is delayed by a seed, which is another, or is only counted. It shows wrong shapes, bounds, call orders,
// leaks and, delayed, missing waits. It says nothing about races inside a kernel, its launch, or speed.
//
// Functions are named as the linker sees them: "cudaMallocAsync", "cublasCreate_v2", "cublasGemmEx_64".

namespace device_double {

/// The nth next call of that function (1: the next one) does nothing and returns that status, once. A status that
/// breaks the device (cudaErrorIllegalAddress, cudaErrorLaunchFailure and their like) is returned by every later call
/// of the runtime, until forget_requests; what those give back is given back.
void fail_next(std::string_view function, int status);
void fail_next(std::string_view function, int status, int nth);
/// The nth next call of that cuSOLVER function does its work and then reports that info for its first matrix.
void info_next(std::string_view function, int info, int nth = 1);
/// Failures and infos asked for that have not happened yet, and the way to drop them and to mend the device.
std::size_t pending();
void forget_requests();

/// While on, calls are checked and counted, and nothing is computed, copied or filled. Memory taken meanwhile is only
/// addresses: so the launches of a whole model can be counted in a second. Lists of addresses are not looked into.
void dry(bool on);
/// What the host finds meanwhile where a copy from the device would have written: `count` pieces of `width` bytes.
/// Zeros where none is given.
void dry_answers(std::function<void(void* to, std::size_t width, std::size_t count)> answer);

/// Work of a stream runs at its turn: later than the call, as a draw from the seed decides, and before whatever waits
/// for it. So data that are used without a wait are wrong under some seed. 0: at once, as at first unless the
/// environment's LORAGA_DOUBLE_SEED says otherwise. Waits for all work before it changes.
void delay(std::uint64_t seed);
std::uint64_t delayed_by();

/// Calls of one function so far, failed ones included.
long calls(std::string_view function);

/// Work handed to the device so far. A library call counts once, however many kernels are behind it.
struct work {
  long kernels = 0;   ///< this library's own
  long products = 0;  ///< cuBLAS calls that compute
  long solvers = 0;   ///< cuSOLVER calls that compute
  long copies = 0;    ///< copies and fills by the runtime
  long waits = 0;  ///< calls in which the host waited: for a stream, an event, the device, or a copy to pageable memory
  double product_bytes = 0;  ///< read and written by products: operands once each, c twice where beta is not 0
  double copied_bytes = 0;   ///< by copies between host and device
  long launches() const { return kernels + products + solvers + copies; }
};
work counted();
work operator-(work const& now, work const& before);

/// What has been taken and not been given back. Handles are streams, events, graphs, and the libraries' handles,
/// parameters and infos.
std::size_t live_device_allocations();
std::size_t live_host_allocations();
std::size_t live_device_bytes();
std::size_t live_handles();
/// The most bytes of device memory that were alive at a time, since the start or a reset.
std::size_t peak_device_bytes();
void reset_peak_device_bytes();

/// Device memory in use may not exceed that; the size of the device at first.
inline constexpr std::size_t whole_device = std::size_t{64} << 30;
void device_limit(std::size_t bytes);

/// Misuses seen so far, each also a line on stderr. A destructor drops the status of what it calls: a test that wants
/// to know looks here.
long complaints();

/// The stream of this thread's last call of NCCL.
cudaStream_t nccl_stream();

}  // namespace device_double

#pragma once
#include <cuda_runtime_api.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/system_error.h>
#if THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA
#include <thrust/system/cuda/execution_policy.h>  // those of all systems take twice the time to compile
#else
#include <thrust/execution_policy.h>
#endif

#include <algorithm>
#include <loraga/backend/cuda_handles.cuh>
#include <loraga/backend/split_index.hpp>
#include <loraga/core/workspace.hpp>
#include <memory>
#include <vector>

// The two shapes of device work everything else is made of: one element at a time, and one column to one number. Both
// run on any of Thrust's systems.

namespace loraga::gpu {

template <class F>
struct on_grid {
  F f;
  split_index split;
  index_t rows;
  LORAGA_HD void operator()(index_t e) const {
    index_t const j = split.column(e);
    f(e - j * rows, j);
  }
};

#ifdef __CUDACC__
/// Thrust's kernels copy a functor, and arrays in it that are indexed at run time then lie on the stack of every
/// thread: kilobytes, read and written through memory. Here it stays among the kernel's parameters.
template <class F>
__global__ void run_large(index_t n, __grid_constant__ F const task) {
  index_t const e = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (e < n) task(e);
}
#endif

/// task(e) for e < n on a stream, asynchronously. A program compiled for Thrust's CPP or OMP system runs the same
/// functors on the host, as a host function of the stream: so they are tested where there is no GPU.
template <class F>
void launch(cudaStream_t stream, index_t n, F const& task) {
  thrust::counting_iterator<index_t> const first(0);
#if THRUST_DEVICE_SYSTEM == THRUST_DEVICE_SYSTEM_CUDA
  if constexpr (sizeof(F) > 256) {
    constexpr unsigned threads = 256;
    run_large<<<static_cast<unsigned>((n + threads - 1) / threads), threads, 0, stream>>>(n, task);
    if (cudaError_t const failed = cudaPeekAtLastError(); failed != cudaSuccess)
      throw thrust::system_error(failed, thrust::cuda_category(), "run_large");
  } else {
    thrust::for_each_n(thrust::cuda::par_nosync.on(stream), first, n, task);
  }
#else
  auto whole = [=] { thrust::for_each_n(thrust::device, first, n, task); };
  using work = decltype(whole);
  auto const run = [](void* p) { (*std::unique_ptr<work>(static_cast<work*>(p)))(); };
  auto kept = std::make_unique<work>(whole);
  auto* const given = kept.release();  // its own owner from here on, unless nobody takes it
  cudaError_t const taken = cudaLaunchHostFunc(stream, run, given);
  if (taken != cudaSuccess) kept.reset(given);
  check(taken, "cudaLaunchHostFunc");
  // Thrust takes what the runtime failed at last for its launch's failure, whoever left it there.
  if (cudaError_t const left = cudaPeekAtLastError(); left != cudaSuccess)
    throw thrust::system_error(left, thrust::generic_category(), cudaGetErrorString(left));
#endif
}

/// f(i, j) for every element of a grid, asynchronously.  errors  backend_error if the launch fails
template <class F>
void for_each(cudaStream_t stream, index_t rows, index_t cols, F f) {
  if (rows <= 0 || cols <= 0) return;
  try {
    launch(stream, rows * cols, on_grid<F>{f, split_index(rows, cols), rows});
  } catch (thrust::system_error const& failure) {
    (void)cudaGetLastError();
    throw backend_error(std::string("cuda::for_each: launch failed (") + failure.what() + "), expected success",
                        failure.code().value());
  }
}

/// The largest of as few and as equal pieces of n as at most `most` (at least one) go into.
inline index_t equal_share(index_t n, index_t most) {
  most = std::max<index_t>(most, 1);
  index_t const pieces = std::max<index_t>((n + most - 1) / most, 1);
  return std::max<index_t>((n + pieces - 1) / pieces, 1);
}

/// Whether functors of that type are put together. Each such type costs a kernel more to compile, so only those say
/// `in_steps` of which a model's start has many.
template <class F>
inline constexpr bool is_put_together = [] {
  if constexpr (requires { F::in_steps; }) return F::in_steps && std::is_trivially_copyable_v<F>;
  else return false;
}();

/// Rows a thread combines before it hands on: fixed, because the order of sums is part of the result.
inline constexpr index_t rows_per_thread = 32;

/// part(p, j) = combination of map(i, j) over i = p, p + parts, ...: neighbouring threads read neighbouring rows.
template <class F, class P>
struct reduce_rows {
  static constexpr bool in_steps = is_put_together<F>;
  F f;
  P part;
  index_t rows;
  LORAGA_HD void operator()(index_t p, index_t j) const {
    auto sum = F::identity();
    for (index_t i = p; i < rows; i += part.rows) sum = F::combine(sum, f.map(i, j));
    part(p, j) = sum;
  }
};
/// The same over what another pass left.
template <class F, class P>
struct reduce_parts {
  static constexpr bool in_steps = is_put_together<F>;
  P from, to;
  LORAGA_HD void operator()(index_t p, index_t j) const {
    auto sum = F::identity();
    for (index_t i = p; i < from.rows; i += to.rows) sum = F::combine(sum, from(i, j));
    to(p, j) = sum;
  }
};
template <class F, class P>
struct finish_parts {
  static constexpr bool in_steps = is_put_together<F>;
  F f;
  P from;
  LORAGA_HD void operator()(index_t, index_t j) const {
    auto sum = F::identity();
    for (index_t i = 0; i < from.rows; ++i) sum = F::combine(sum, from(i, j));
    f.finish(j, sum);
  }
};
template <class F>
struct reduce_short_column {
  static constexpr bool in_steps = is_put_together<F>;
  F f;
  index_t rows;
  LORAGA_HD void operator()(index_t, index_t j) const {
    auto sum = F::identity();
    for (index_t i = 0; i < rows; ++i) sum = F::combine(sum, f.map(i, j));
    f.finish(j, sum);
  }
};

/// f.finish(j, combination over i of f.map(i, j)), in an order that depends on the shape alone: passes over the rows,
/// each leaving one part for every 32, until one thread can combine a column's.
template <class B, class F>
void reduce_columns(B& be, index_t rows, index_t cols, F f) {
  using V = typename F::value_type;
  if (rows <= rows_per_thread) return be.for_each(1, cols, reduce_short_column<F>{f, rows});
  auto const fewer = [](index_t n) { return (n + rows_per_thread - 1) / rows_per_thread; };
  scratch<B> temporary(be);
  using parts = matrix_view<V, typename B::space>;
  parts part = temporary.template matrix<V>(fewer(rows), cols);
  be.for_each(part.rows, cols, reduce_rows<F, parts>{f, part, rows});
  while (part.rows > rows_per_thread) {
    parts const next = temporary.template matrix<V>(fewer(part.rows), cols);
    be.for_each(next.rows, cols, reduce_parts<F, parts>{part, next});
    part = next;
  }
  be.for_each(1, cols, finish_parts<F, parts>{f, part});
}

/// Addresses to device memory through a kernel's parameters: nothing on the host must outlive the call, so that it
/// may be captured in a graph. Thrust's kernels copy parameters to each thread's stack, so they are few.
struct place_addresses {
  static constexpr index_t most = 32;
  void* from[most];
  matrix_view<void*, device_space> to;  // n x 1
  LORAGA_HD void operator()(index_t i, index_t) const { to(i, 0) = from[i]; }
};

/// Sends addresses to the device. Memory of the host's heap is taken over before the copy's call returns, but a graph
/// would read it again.
template <class B>
void send_addresses(B& be, std::vector<void*> const& from, matrix_view<void*, device_space> to) {
  if (from.empty()) return;
  if (!be.capturing())
    return check(
        cudaMemcpyAsync(to.data, from.data(), from.size() * sizeof(void*), cudaMemcpyHostToDevice, be.stream()),
        "cudaMemcpyAsync");
  for (index_t first = 0; first < to.rows; first += place_addresses::most) {
    index_t const now = std::min(place_addresses::most, to.rows - first);
    place_addresses some{{}, to.row_range(first, now)};
    std::copy_n(from.begin() + first, now, some.from);
    be.for_each(now, 1, some);
  }
}

}  // namespace loraga::gpu

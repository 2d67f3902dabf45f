#pragma once
#include <algorithm>
#include <loraga/backend/cuda_factorisations.cuh>
#include <loraga/backend/cuda_gram.cuh>
#include <loraga/backend/cuda_grids.cuh>
#include <loraga/backend/cuda_handles.cuh>
#include <loraga/backend/cuda_kernels.cuh>
#include <loraga/backend/cuda_mixed.cuh>
#include <loraga/backend/cuda_pool.cuh>
#include <loraga/backend/cuda_products.cuh>
#include <loraga/backend/cuda_steps.cuh>
#include <loraga/backend/cuda_transfer.cuh>
#include <loraga/linalg/elementwise.hpp>
#include <memory>
#include <vector>

namespace loraga {

/// Settings of a cuda backend.
struct cuda_options {
  float_products products = float_products::fp32;  ///< what products of float matrices may round
  /// Scratch for one chunk of a batch. 4 GiB hold 32 to 128 of a model's matrices, which is enough to keep a GPU busy,
  /// and are 5 % of 80 GB. A fixed number, not a share of what is free: chunks decide the last bits of a result.
  index_t scratch_bytes = index_t{4} << 30;
};

/// A GPU through CUDA: one stream of the device that was current when the object was made. Calls are asynchronous on
/// that stream unless they say otherwise. One object serves one host thread, with that device current.
/// A stream or a handle that you give is borrowed: it must outlive this object and all memory taken from it. A stream
/// of its own lives as long as any of that memory.
/// errors  backend_error naming the CUDA call that failed; state_error if a borrowed handle is on another stream
class cuda {
  using memory_type = gpu::step_workspace<workspace<std::unique_ptr<std::byte[], gpu::free_on_stream>>>;
  std::shared_ptr<gpu::stream> stream_;
  cudaMemPool_t pool_ = gpu::device_pool(stream_->device());
  std::vector<std::byte> host_work_;  // before the handles: cuBLAS waits for the device when it goes
  gpu::handle<cublasHandle_t> blas_;
  gpu::handle<cusolverDnHandle_t> solver_;
  gpu::handle<cusolverDnParams_t> parameters_;
  cuda_options options_;
  std::unique_ptr<std::byte[], gpu::free_on_stream> blas_work_;
  memory_type memory_;
  mutable gpu::steps<cuda> steps_;  // launched by whoever asks for the stream or a handle

 public:
  using space = device_space;
  using event = gpu::event;
  /// The host runs ahead: a look at a result costs more than work that may be for nothing.
  static constexpr bool runs_ahead = true;

  /// A stream of its own.
  explicit cuda(cuda_options options = {}) : stream_(std::make_shared<gpu::stream>()), options_(options) {
    use_own_handles();
  }
  /// On the caller's stream (null is CUDA's default stream), with handles of its own.
  explicit cuda(cudaStream_t stream, cuda_options options = {})
      : stream_(std::make_shared<gpu::stream>(stream)), options_(options) {
    use_own_handles();
  }
  /// All borrowed. The handles must be set to that stream.
  cuda(cudaStream_t stream, cublasHandle_t blas, cusolverDnHandle_t solver, cuda_options options = {})
      : stream_(std::make_shared<gpu::stream>(stream)), blas_(blas), solver_(solver), options_(options) {
    gpu::product_settings const looked_at(blas_, stream);
    require_stream_of_solver();
  }
  cuda(cuda const&) = delete;
  cuda& operator=(cuda const&) = delete;
  ~cuda() {
    // A cuSOLVER call may still use the host memory it was given; an owned cuBLAS handle would wait for it.
    if (!blas_.owned() && !host_work_.empty()) gpu::forget(cudaStreamSynchronize(stream_->get()));
  }

  /// The stream that everything runs on.
  cudaStream_t stream() const {
    launch_steps();
    return stream_->get();
  }
  /// The cuBLAS handle.
  cublasHandle_t blas() const {
    launch_steps();
    return blas_.get();
  }
  /// The same with its owner.
  gpu::handle<cublasHandle_t> const& blas_handle() const { return blas_; }
  /// The cuSOLVER handle, for one call: a borrowed handle's stream is looked at each time.
  cusolverDnHandle_t solver() const {
    launch_steps();
    if (!solver_.owned()) require_stream_of_solver();
    return solver_.get();
  }
  /// Parameters of cuSOLVER's 64-bit interface.
  cusolverDnParams_t solver_parameters() const { return parameters_.get(); }
  auto& memory() { return memory_; }
  /// Gives the device back what is not in use: scratch, but for what a captured step works in, and memory that was
  /// freed and kept for the next allocation, of all backends of this device. Waits for the stream, unless it is being
  /// captured.
  void trim() {
    memory_.trim();
    if (capturing()) return;
    synchronize();  // memory is free when its last work is done
    if (pool_) gpu::check(cudaMemPoolTrimTo(pool_, 0), "cudaMemPoolTrimTo");
  }
  /// Whether the stream is being captured into a graph.
  bool capturing() const {
    auto status = cudaStreamCaptureStatusNone;
    gpu::check(cudaStreamIsCapturing(stream_->get(), &status), "cudaStreamIsCapturing");
    return status != cudaStreamCaptureStatusNone;
  }
  /// At least that many bytes of host memory, for a cuSOLVER call.
  void* host_work(std::size_t bytes) {
    if (host_work_.size() < bytes) {
      synchronize();  // a call before this one may still copy from it
      host_work_.resize(bytes);
    }
    return host_work_.data();
  }

  /// Waits for the stream; errors of kernels that ran on it surface here at the latest.
  void synchronize() { gpu::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

  /// Another backend beside this one: same device and options, a stream of its own.
  std::unique_ptr<cuda> fork() const {
    gpu::device_scope const here(stream_->device());
    return std::make_unique<cuda>(options_);
  }
  /// Makes this backend's device the calling thread's.
  void attach_thread() const { gpu::check(cudaSetDevice(stream_->device()), "cudaSetDevice"); }
  void record(event& e) { gpu::check(cudaEventRecord(e.get(), stream()), "cudaEventRecord"); }
  /// Later work on this stream waits for the event; the host does not.
  void wait(event const& e) { gpu::check(cudaStreamWaitEvent(stream(), e.get(), 0), "cudaStreamWaitEvent"); }

  /// Sets what products of float matrices may round.
  void products(float_products how) { options_.products = how; }
  /// What products of float matrices may round.
  float_products products() const { return options_.products; }
  /// While the returned object lives, products round no operand.
  auto full_precision() {
    auto const restore = [before = options_.products](cuda* be) { be->options_.products = before; };
    options_.products = float_products::fp32;
    return std::unique_ptr<cuda, decltype(restore)>(this, restore);
  }

  /// While the returned object lives, products of float matrices round operands to TF32.
  auto pass_precision() {
    auto const restore = [before = options_.products](cuda* be) { be->options_.products = before; };
    options_.products = float_products::tf32;
    return std::unique_ptr<cuda, decltype(restore)>(this, restore);
  }

  /// Stream-ordered device memory, of a pool that keeps what was freed (see trim) and that all backends of a device
  /// share.
  /// errors  backend_error if there is not enough; state_error while the stream is being captured: a graph would own
  ///         the memory, so run a step once before capturing it
  template <class T>
  std::unique_ptr<T[], gpu::free_on_stream> allocate(index_t n) {
    if (capturing())
      raise<state_error>("cuda::allocate", "stream", "being captured",
                         "all memory taken before, by running the same step once");
    auto const bytes = static_cast<std::size_t>(std::max<index_t>(n, 1)) * sizeof(T);
    steps_.took(static_cast<index_t>(bytes));
    return {static_cast<T*>(gpu::take_from_pool(pool_, bytes, stream_->get())), gpu::free_on_stream{stream_}};
  }
  /// Pinned host memory.
  template <class T>
  std::unique_ptr<T[], gpu::free_pinned> allocate_host(index_t n) {
    void* p = nullptr;
    auto const bytes = static_cast<std::size_t>(std::max<index_t>(n, 1)) * sizeof(T);
    if (auto const e = cudaMallocHost(&p, bytes); e != cudaSuccess)
      gpu::check(e, ("cudaMallocHost of " + std::to_string(bytes) + " bytes").c_str());
    return {static_cast<T*>(p), {}};
  }

  /// dst = src on the device, or between device and host. Asynchronous: host memory must stay as it is until
  /// synchronize().
  /// errors  shape_error, alias_error; value_error if a view's pointer is not in the space its type says
  template <class S, class D>
  requires gpu::Copyable<S, D>
  void copy(S src, D dst) {
    require_shape(src, dst.rows, dst.cols, "cuda::copy", "source");
    if (dst.rows == 0 || dst.cols == 0) return;
    if constexpr (std::is_same_v<typename S::space, typename D::space>) {
      require_same_or_distinct(dst, src, "cuda::copy", "destination", "source");
      if (runs_by_rows(dst)) return copy(src.transposed(), dst.transposed());
      for_each(dst.rows, dst.cols, detail::copy<S, D>{src, dst});
    } else {
      gpu::require_space(src, "cuda::copy", "source");
      gpu::require_space(dst, "cuda::copy", "destination");
      gpu::transfer(*this, src, dst);
    }
  }

  template <class F>
  void for_each(index_t rows, index_t cols, F f) {
    if constexpr (gpu::is_put_together<F>)
      if (steps_.open()) return rows > 0 && cols > 0 ? steps_.add_grid(rows, cols, f) : void();
    gpu::for_each(stream(), rows, cols, f);
  }
  template <class F>
  void reduce_columns(index_t rows, index_t cols, F f) {
    gpu::reduce_columns(*this, rows, cols, f);
  }
  /// The same of many grids, see loraga::for_each_of: one launch, whatever their number. A list that was changed is
  /// brought to the device before, which takes memory and some launches.
  template <class R, class F>
  void for_each_of(grid_list<R, cuda>& list, F const& f) {
    gpu::for_each_of(*this, list, f);
  }
  /// See loraga::sum_of: three launches.
  template <class R, class F, class Finish>
  void sum_of(grid_list<R, cuda>& list, F const& f, Finish const& finish) {
    gpu::sum_of(*this, list, f, finish);
  }
  /// Brings a list that was changed to the device.
  template <class R>
  void plan(grid_list<R, cuda>& list) {
    gpu::plan(*this, list);
  }

  /// math    c = alpha*a*b + beta*c, sums in compute_t of c's type, rounded to it once
  /// errors  shape_error for shapes that do not fit or views without a unit stride; alias_error if c overlaps a or b
  /// cost    2*rows*cols*depth operations; where cuBLAS does not take the types together, scratch: a few times the thin
  ///         float operands of bf16 ones, else wider copies of at most 64 MB each
  template <ViewIn<space> A, ViewIn<space> Bv, MutableViewIn<space> C>
  void gemm(double alpha, A a, Bv b, double beta, C c) {
    product<typename A::value_type, typename Bv::value_type, typename C::value_type>(alpha, a, b, beta, c);
  }

  /// One call for the whole batch where members are alike; one per member where types or strides differ.
  template <BatchIn<space> A, BatchIn<space> Bb, BatchIn<space> C>
  void gemm_batched(double alpha, A const& a, Bb const& b, double beta, C const& c) {
    require_count(a, c.count, "cuda::gemm_batched", "a");
    require_count(b, c.count, "cuda::gemm_batched", "b");
    constexpr bool direct = gpu::has_product<typename A::value_type, typename Bb::value_type, typename C::value_type>;
    if constexpr (direct) {
      bool const scalar_kernels =
          sizeof(typename A::value_type) >= sizeof(float) && options_.products == float_products::fp32;
      auto const fits = [&](auto const& l) { return gpu::uniform(l) && (scalar_kernels || gpu::aligned(l)); };
      if (c.count > 1 && a.cols > 0 && fits(a) && fits(b) && fits(c)) {
        for (index_t i = 0; i < c.count; ++i) require_product(a[i], b[i], c[i], "cuda::gemm_batched");
        if (c.rows * c.cols == 0) return;
        if (by_columns(c[0])) return together(alpha, a, b, beta, c);
        return together(alpha, b.transposed(), a.transposed(), beta, c.transposed());
      }
    }
    for (index_t i = 0; i < c.count; ++i) gemm(alpha, a[i], b[i], beta, c[i]);
  }

  /// The same list with an array of its addresses on the device, until `temporary` ends: products that take it, or
  /// members of it, then send none.
  template <class T>
  view_list<T, space> prepared(scratch<cuda>& temporary, view_list<T, space> list) {
    if (list.count > 1 && list.addresses == nullptr)
      list.addresses = reinterpret_cast<T* const*>(gpu::addresses(*this, temporary, list.count, list)[0]);
    return list;
  }

  /// math    s_i = y_iT*y_i in double, whatever y's type, over fixed row ranges
  /// cost    2*rows*cols^2 operations in double each; scratch for 256 MB of widened rows at a time, or 1024 rows of one
  template <BatchIn<space> Y>
  void gram_batched(Y const& y, slab_view<double, space> s) {
    require_count(y, s.count, "cuda::gram_batched", "y");
    if (s.count == 0 || y.cols == 0) return;
    require_shape(s[0], y.cols, y.cols, "cuda::gram_batched", "s");
    for (index_t i = 0; i < y.count; ++i) require_shape(y[i], y.rows, y.cols, "cuda::gram_batched", "y");
    if (y.rows > 0) return gpu::gram(*this, y, s);
    for (index_t i = 0; i < s.count; ++i) fill(*this, s[i], 0);
  }

  template <std::same_as<double> T>
  void cholesky_inverse_batched(slab_view<T, space> s, double relative, double absolute, slab_view<int, space> flags) {
    require_count(flags, s.count, "cuda::cholesky_inverse_batched", "flags");
    gpu::cholesky_inverse(*this, s, relative, absolute, flags);
  }
  template <std::same_as<double> T>
  void eigh_batched(slab_view<T, space> s, index_t k, slab_view<T, space> values, slab_view<int, space> flags) {
    require_count(values, s.count, "cuda::eigh_batched", "values");
    require_count(flags, s.count, "cuda::eigh_batched", "flags");
    gpu::eigh(*this, s, k, values, flags);
  }

  /// task(backend, first, n): the whole batch at once.
  template <class F>
  void for_each_chunk(index_t count, F const& task) {
    if (count > 0) task(*this, index_t{0}, count);
  }
  /// The same for work that takes bytes_each of scratch for every member: in equal chunks of at most
  /// cuda_options::scratch_bytes, or of one member. Scratch that had to be added is given back at the end, unless it is
  /// small.
  template <class F>
  void for_each_chunk(index_t count, index_t bytes_each, F const& task) {
    scratch<cuda> in_use(*this);
    (void)in_use.matrix<std::byte>(1, 1);  // so that blocks do not become one in here
    passing_scratch const passing(memory_);
    index_t const n = gpu::equal_share(count, options_.scratch_bytes / std::max<index_t>(bytes_each, 1));
    for (index_t first = 0; first < count; first += n) task(*this, first, std::min(n, count - first));
  }
  /// task(backend, i) for every i < count, where no task touches what another one writes: small work that differs from
  /// one to the next in its operands alone. Launches and products that tasks have in common become one each. A task may
  /// wait, read, and call anything here; what it gives to the device by other means goes to stream() as it is asked for
  /// then, which launches what came before.
  /// errors  what tasks throw: what came before is launched. backend_error if a launch fails: which tasks were done is
  ///         not known then
  /// memory  what tasks give back is kept until their work is launched, at the latest when it is a gigabyte
  template <class F>
  void in_step(index_t count, F const& task) {
    if (count < 2 || steps_.open() || capturing()) {
      for (index_t i = 0; i < count; ++i) task(*this, i);
      return;
    }
    gpu::step_section section(*this, steps_, memory_, *stream_);
    for (index_t i = 0; i < count; ++i) {
      section.next_member();
      task(*this, i);
    }
    section.finish();
  }

 private:
  void launch_steps() const {
    if (steps_.pending()) steps_.launch(const_cast<cuda&>(*this));  // const members hand out what works on the stream
  }
  /// Gives back the scratch that was added in its scope.
  class passing_scratch {
    memory_type& memory_;
    memory_type::extent const before_;

   public:
    explicit passing_scratch(memory_type& memory) : memory_(memory), before_(memory.holding()) {}
    ~passing_scratch() { memory_.shrink(before_, index_t{256} << 20); }
    passing_scratch(passing_scratch const&) = delete;
    passing_scratch& operator=(passing_scratch const&) = delete;
  };

  void require_stream_of_solver() const {
    cudaStream_t current = nullptr;
    gpu::check(cusolverDnGetStream(solver_.get(), &current), "cusolverDnGetStream");
    if (current != stream())
      raise<state_error>("cuda", "stream of the borrowed cuSOLVER handle", "another one", "the backend's own stream");
  }
  void use_own_handles() {
    gpu::check(cublasSetStream(blas(), stream()), "cublasSetStream");
    gpu::check(cublasSetMathMode(blas(), gpu::product_settings::math), "cublasSetMathMode");
    gpu::check(cusolverDnSetStream(solver_.get(), stream()), "cusolverDnSetStream");
    // Memory of its own keeps cuBLAS from allocating inside a captured step; NVIDIA's size for the newest devices.
    constexpr index_t bytes = index_t{32} << 20;
    blas_work_ = allocate<std::byte>(bytes);
    gpu::check(cublasSetWorkspace(blas(), blas_work_.get(), bytes), "cublasSetWorkspace");
  }

  template <class TA, class TB, class TC>
  void product(double alpha, matrix_view<TA const, space> a, matrix_view<TB const, space> b, double beta,
               matrix_view<TC, space> c) {
    require_product(a, b, c, "cuda::gemm");
    if (!by_columns(c)) return product<TB, TA, TC>(alpha, b.transposed(), a.transposed(), beta, c.transposed());
    if (c.rows == 0 || c.cols == 0) return;
    if (a.cols == 0) return beta == 0 ? fill(*this, c, 0) : axpby(*this, beta, c, 0.0, c);  // cuBLAS may leave c alone
    if constexpr (gpu::has_product<TA, TB, TC>) {
      if (steps_.open()) return steps_.add_product(options_.products, alpha, a, b, beta, c);
      gpu::product_settings const settings(blas_, stream());
      gpu::multiply(blas(), options_.products, alpha, a, b, beta, c);
    } else {
      gpu::multiply_mixed(*this, alpha, a, b, beta, c);
    }
  }

  /// A batch of alike members in one call, for a column-major c.
  template <class A, class Bb, class C>
  void together(double alpha, A const& a, Bb const& b, double beta, C const& c) {
    gpu::product_settings const settings(blas_, stream());
    if constexpr (gpu::is_slab<A> && gpu::is_slab<Bb> && gpu::is_slab<C>) {
      gpu::multiply_strided(blas(), options_.products, alpha, a, b, beta, c);
    } else {
      scratch<cuda> temporary(*this);
      auto const lists = gpu::addresses(*this, temporary, c.count, a, b, c);
      gpu::multiply_listed(blas(), options_.products, alpha, a[0], lists[0], b[0], lists[1], beta, c[0], lists[2],
                           c.count);
    }
  }
};

}  // namespace loraga

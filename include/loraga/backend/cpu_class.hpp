#pragma once
#include <algorithm>
#include <loraga/backend/checks.hpp>
#include <loraga/backend/kernels.hpp>
#include <loraga/backend/pages.hpp>
#include <loraga/backend/product_tile.hpp>
#include <loraga/backend/thread_pool.hpp>
#include <loraga/linalg/elementwise.hpp>
#include <memory>
#include <new>
#include <thread>
#include <vector>

namespace loraga {

/// The CPU through Eigen. One object serves one calling thread. Inside a call it uses `threads` threads over fixed
/// tiles, so results depend on shapes and never on the number of threads.
/// errors  value_error if threads < 1
class cpu {
  struct free_aligned {
    std::align_val_t alignment{64};
    void operator()(void* p) const { ::operator delete(p, alignment); }
  };
  // How work is cut. Part of the numerical result (sums are formed tile by tile), hence constants.
  static constexpr index_t tile = 512;           // rows of a Gram matrix's piece
  static constexpr index_t reduce_block = 4096;  // rows reduced in one go
  static constexpr index_t lanes = 16;           // partial results within a block, one vector register of floats
  static constexpr index_t gram_tasks = 16;      // most partial sums of a Gram matrix
  static constexpr index_t worth_threads = index_t{1} << 16;  // operations below which waking threads costs more

  int threads_;
  std::unique_ptr<thread_pool> pool_;  // started when first needed
  std::vector<eigen::packing> packing_;
  std::vector<std::unique_ptr<cpu>> workers_;  // one-threaded backends for work over a batch
  workspace<std::unique_ptr<std::byte[], free_aligned>> memory_;

  [[gnu::noinline]] void parallel(index_t tasks, bool worthwhile, loop_body task) {
    if (threads_ == 1 || tasks < 2 || !worthwhile) {
      for (index_t i = 0; i < tasks; ++i) task(i, 0);
      return;
    }
    if (!pool_) pool_ = std::make_unique<thread_pool>(threads_ - 1);
    pool_->run(tasks, task);
  }

 public:
  using space = host_space;

  explicit cpu(int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) : threads_(threads) {
    require_value(threads >= 1, threads, "cpu", "threads", "at least 1");
    packing_.resize(static_cast<std::size_t>(threads));
  }
  /// How many threads it uses.
  int threads() const { return threads_; }
  auto& memory() { return memory_; }
  /// Gives back scratch memory that is not in use.
  void trim() {
    memory_.trim();
    workers_.clear();
    for (auto& p : packing_) p = {};
  }

  // Calls are finished when they return, and products never round below their type.
  struct event {};
  void record(event&) {}
  void wait(event const&) {}
  void synchronize() {}
  void attach_thread() const {}
  std::unique_ptr<cpu> fork() const { return std::make_unique<cpu>(1); }
  event full_precision() { return {}; }

  template <class T>
  std::unique_ptr<T[], free_aligned> allocate(index_t n) {
    auto const bytes = static_cast<std::size_t>(std::max<index_t>(n, 1)) * sizeof(T);
    std::align_val_t const alignment{alignment_for(bytes)};
    void* const p = ::operator new(bytes, alignment);
    prefer_large_pages(p, bytes);
    return {static_cast<T*>(p), free_aligned{alignment}};
  }
  template <class T>
  auto allocate_host(index_t n) {
    return allocate<T>(n);
  }

  template <ViewIn<space> S, MutableViewIn<space> D>
  requires std::same_as<typename S::value_type, typename D::value_type>
  void copy(S src, D dst) {
    require_shape(src, dst.rows, dst.cols, "cpu::copy", "source");
    require_same_or_distinct(dst, src, "cpu::copy", "destination", "source");
    if (runs_by_rows(dst)) src = src.transposed(), dst = dst.transposed();
    for_each(dst.rows, dst.cols, detail::copy<read_only_t<S>, D>{src, dst});
  }

  /// An F with many operations per call says how many by `cost()`, so that few calls are worth threads, too.
  template <class F>
  void for_each(index_t rows, index_t cols, F f) {
    if (rows <= 0 || cols <= 0) return;
    index_t each = 1;
    if constexpr (requires { f.cost(); }) each = std::max<index_t>(1, f.cost());
    index_t const work = rows * cols * each;
    index_t const strips = std::min(cols, std::max<index_t>(1, work / worth_threads));
    index_t const row_cuts = cols == 1 ? std::min(rows, std::max<index_t>(1, work / worth_threads)) : 1;
    parallel(strips * row_cuts, work >= 2 * worth_threads, [&](index_t t, int) {
      F const g = f;  // a copy of its own, so that the compiler knows nothing else writes it
      index_t const s = t % strips, q = t / strips;
      for (index_t j = cols * s / strips; j < cols * (s + 1) / strips; ++j)
        for (index_t i = rows * q / row_cuts; i < rows * (q + 1) / row_cuts; ++i) g(i, j);
    });
  }

  template <class F>
  void reduce_columns(index_t rows, index_t cols, F f) {
    using V = typename F::value_type;
    index_t const blocks = std::max<index_t>(1, (rows + reduce_block - 1) / reduce_block);
    scratch<cpu> temporary(*this);
    auto partial = temporary.template matrix<V>(blocks, cols);
    parallel(cols * blocks, rows * cols >= worth_threads, [&](index_t t, int) {
      index_t const j = t / blocks, first = t % blocks * reduce_block, last = std::min(rows, first + reduce_block);
      V lane[lanes];
      for (auto& x : lane) x = F::identity();
      index_t i = first;
      for (; i + lanes <= last; i += lanes)
        for (index_t l = 0; l < lanes; ++l) lane[l] = F::combine(lane[l], f.map(i + l, j));
      for (index_t l = 0; i < last; ++i, ++l) lane[l] = F::combine(lane[l], f.map(i, j));
      for (index_t l = 1; l < lanes; ++l) lane[0] = F::combine(lane[0], lane[l]);
      partial(t % blocks, j) = lane[0];
    });
    for (index_t j = 0; j < cols; ++j) {
      V sum = partial(0, j);
      for (index_t b = 1; b < blocks; ++b) sum = F::combine(sum, partial(b, j));
      f.finish(j, sum);
    }
  }

  /// math    c = alpha*a*b + beta*c, sums in compute_t of c's type, rounded to it once
  /// errors  shape_error for shapes that do not fit or views without a unit stride; alias_error if c overlaps a or b
  /// cost    2*rows*cols*depth operations; scratch for operands and results whose type is not the compute type, and up
  ///         to four times the result where its sums are cut
  template <ViewIn<space> A, ViewIn<space> Bv, MutableViewIn<space> C>
  void gemm(double alpha, A a, Bv b, double beta, C c) {
    // From here on only element types matter: fewer instantiations, less to compile.
    product<typename A::value_type, typename Bv::value_type, typename C::value_type>(alpha, a, b, beta, c);
  }

  template <BatchIn<space> A, BatchIn<space> Bb, BatchIn<space> C>
  void gemm_batched(double alpha, A const& a, Bb const& b, double beta, C const& c) {
    require_count(a, c.count, "cpu::gemm_batched", "a");
    require_count(b, c.count, "cpu::gemm_batched", "b");
    for (index_t i = 0; i < c.count; ++i) gemm(alpha, a[i], b[i], beta, c[i]);
  }

  /// math    s_i = y_iT*y_i in double, whatever y's type, summed over fixed row ranges
  template <BatchIn<space> Y>
  void gram_batched(Y const& y, slab_view<double, space> s) {
    require_count(y, s.count, "cpu::gram_batched", "y");
    for (index_t i = 0; i < s.count; ++i) gram<typename Y::value_type>(y[i], s[i]);
  }

  template <std::same_as<double> T>
  void cholesky_inverse_batched(slab_view<T, space> s, double relative, double absolute, slab_view<int, space> flags) {
    for (index_t i = 0; i < s.count; ++i) {
      if (eigen::cholesky_inverse(s[i], relative, absolute)) {
        for (index_t j = 0; j < s.cols; ++j)
          for (index_t p = j + 1; p < s.rows; ++p) s[i](p, j) = 0;
      } else {
        flags[i](0, 0) |= svd_ill_conditioned;
        for (index_t j = 0; j < s.cols; ++j)
          for (index_t p = 0; p < s.rows; ++p) s[i](p, j) = p == j;
      }
    }
  }

  template <std::same_as<double> T>
  void eigh_batched(slab_view<T, space> s, index_t k, slab_view<T, space> values, slab_view<int, space> flags) {
    for (index_t i = 0; i < s.count; ++i)
      if (!eigen::eigh(s[i], k, values[i], packing_[0])) flags[i](0, 0) |= svd_not_converged;
  }

  /// task(backend, first, n): one matrix at a time, in parallel over one-threaded backends.
  template <class F>
  void for_each_chunk(index_t count, F const& task) {
    if (threads_ == 1 || count < 2) {
      for (index_t i = 0; i < count; ++i) task(*this, i, index_t{1});
      return;
    }
    while (workers_.size() < packing_.size()) workers_.push_back(std::make_unique<cpu>(1));
    parallel(count, true,
             [&](index_t i, int worker) { task(*workers_[static_cast<std::size_t>(worker)], i, index_t{1}); });
  }

 private:
  template <class TA, class TB, class TC>
  void product(double alpha, matrix_view<TA const, space> a, matrix_view<TB const, space> b, double beta,
               matrix_view<TC, space> c);
  template <class T>
  void reserve_packing(product_tile cut, index_t rows, index_t cols);
  template <class T, class U>
  matrix_view<T const, space> widened(scratch<cpu>& temporary, matrix_view<U const, space> v);
  template <class T>
  void gram(matrix_view<T const, space> y, matrix_view<double, space> s);
};

namespace detail {

/// c = the sum of parts + beta*c; beta = 0 does not read c.
template <class P, class C>
struct add_parts {
  P parts;
  typename P::value_type beta;
  C c;
  void operator()(index_t i, index_t j) const {
    using T = typename P::value_type;
    T sum = parts[0](i, j);
    for (index_t s = 1; s < parts.count; ++s) sum += parts[s](i, j);
    c(i, j) = static_cast<typename C::value_type>(beta == T(0) ? sum : sum + beta * static_cast<T>(c(i, j)));
  }
};

/// to = from in double. Contiguous numbers have a loop of their own, which compilers turn into vector conversions.
template <class T>
void widen(index_t n, T const* from, index_t stride, double* to) {
  if (stride == 1)
    for (index_t i = 0; i < n; ++i) to[i] = as_double(from[i]);
  else
    for (index_t i = 0; i < n; ++i) to[i] = as_double(from[i * stride]);
}

}  // namespace detail

}  // namespace loraga

#pragma once
#ifdef LORAGA_TEST_CUDA
#include <loraga/cuda.cuh>
#else
#include <loraga/cpu.hpp>
#endif

#include "host.hpp"

// The backend the tests run on. Test bodies see its memory only through upload and download, so that the same files
// are compiled for each backend.

namespace test {

#ifdef LORAGA_TEST_CUDA
using backend = loraga::cuda;
inline backend make_backend(int = 2) { return backend(); }
/// A GPU's batched products are other kernels than its single ones.
inline constexpr bool batches_keep_bits = false;
#else
using backend = loraga::cpu;
inline backend make_backend(int threads = 2) { return backend(threads); }
inline constexpr bool batches_keep_bits = true;
#endif

using space = backend::space;
template <class T>
using view = loraga::matrix_view<T, space>;

template <class T>
loraga::matrix<T, backend> upload(backend& be, host const& m) {
  std::vector<T> values;
  for (double const x : m.data) values.push_back(static_cast<T>(static_cast<loraga::compute_t<T>>(x)));
  loraga::matrix<T, backend> d(be, m.rows, m.cols);
  be.copy(loraga::col_major(values.data(), m.rows, m.cols), d.view());
  be.synchronize();
  return d;
}
template <class T>
void upload_to(backend& be, host const& m, view<T> to) {
  auto const d = upload<T>(be, m);
  be.copy(d.view(), to);
  be.synchronize();
}
/// Ids of columns, 1 x their number.
template <class I>
loraga::matrix<I, backend> upload_ids(backend& be, std::vector<I> const& ids) {
  auto const n = static_cast<index_t>(ids.size());
  loraga::matrix<I, backend> d(be, 1, n);
  be.copy(loraga::col_major(ids.data(), 1, n), d.view());
  be.synchronize();
  return d;
}
template <class V>
host download(backend& be, V v) {
  auto const values = loraga::read_all(be, v);
  host m(v.rows, v.cols);
  for (std::size_t i = 0; i < values.size(); ++i)
    m.data[i] = static_cast<double>(static_cast<loraga::compute_t<typename V::value_type>>(values[i]));
  return m;
}

/// SVD of one matrix by a method, as a batch of one.
template <class Svd, class T>
auto factor(backend& be, Svd const& svd, loraga::matrix<T, backend>& a, index_t k) {
  loraga::matrix_view<T const, space> const one = a.view();
  return svd.top(be, loraga::view_list(&one, 1), k);
}
template <class R>
triplets download_triplets(backend& be, R const& result, index_t b = 0) {
  auto const f = result[b];
  return {download(be, f.u), download(be, f.s).data, download(be, f.v)};
}

/// What an adapter holds becomes its frozen start.
template <class A>
void freeze(backend& be, A& ad) {
  ad.freeze_start(be, ad.a(), ad.b());
  ad.start(be, ad.a(), ad.b());
}

/// What a LoRA adapter adds to W, formed.
template <class A>
host change_of(backend& be, A& ad) {
  host c = download(be, ad.b()) * download(be, ad.a());
  if (ad.paired()) c = c - download(be, ad.start_b()) * download(be, ad.start_a());
  return ad.scale() * c;
}

/// Smallest accepted error of results in T, for numbers near 1.
template <class T>
inline constexpr double tolerance = 1e-5;
template <>
inline constexpr double tolerance<double> = 1e-12;

}  // namespace test

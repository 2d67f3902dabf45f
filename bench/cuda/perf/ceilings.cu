// What the device can do at most: copies and large products through its own libraries.
#include "run.cuh"

namespace perf {

namespace {

template <class T, class C>
void square_product(backend& be, settings const& how, index_t n, char const* name) {
  loraga::matrix<T, backend> a(be, n, n), b(be, n, n);
  loraga::matrix<C, backend> c(be, n, n);
  loraga::fill_normal(be, a.view(), {1, 1}, 1);
  loraga::fill_normal(be, b.view(), {1, 2}, 1);
  auto const t = time_of(be, how, [&] { be.gemm(1.0, a.view(), b.view(), 0.0, c.view()); });
  // a row of it against double
  loraga::matrix<double, backend> row(be, 1, n), wide_b(be, n, n), exact(be, 1, n);
  loraga::convert(be, a.view().row_range(0, 1), row.view());
  loraga::convert(be, b.view(), wide_b.view());
  be.gemm(1.0, row.view(), wide_b.view(), 0.0, exact.view());
  loraga::convert(be, c.view().row_range(0, 1), row.view());
  double const cubed = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  result r("ceilings", name);
  with_times(r, t).with("flops", 2 * cubed).with("error", relative_error(be, row.view(), exact.view()));
}

void streams(backend& be, settings const& how) {
  index_t const side = how.side(32768);
  loraga::matrix<float, backend> x(be, side, side), y(be, side, side);
  loraga::fill_normal(be, x.view(), {2, 1}, 1);
  auto const bytes = static_cast<double>(side) * static_cast<double>(side) * sizeof(float);
  auto const line = [&](char const* name, double moved, std::function<void()> const& work) {
    auto const t = time_of(be, how, work);
    result r("ceilings", name);
    with_times(r, t).with("bytes", moved);
  };
  line("device copy", 2 * bytes, [&] {
    loraga::gpu::check(cudaMemcpyAsync(y.view().data, x.view().data, static_cast<std::size_t>(bytes),
                                       cudaMemcpyDeviceToDevice, be.stream()),
                       "cudaMemcpyAsync");
  });
  result("ceilings", "device copy is equal").with("error", relative_error(be, y.view(), x.view()));
  line("copy of floats by a kernel", 2 * bytes, [&] { be.copy(x.view(), y.view()); });
  line("axpby of floats", 3 * bytes, [&] { loraga::axpby(be, 0.5, x.view(), 0.5, y.view()); });
  loraga::matrix<loraga::bf16, backend> narrow(be, side, side);
  line("float to bf16", 1.5 * bytes, [&] { loraga::convert(be, x.view(), narrow.view()); });
  line("bf16 to float", 1.5 * bytes, [&] { loraga::convert(be, narrow.view(), y.view()); });
}

}  // namespace

void ceilings(backend& be, settings const& how) {
  result("ceilings", "memory").with("free_bytes", free_memory());
  streams(be, how);
  index_t const n = how.side(8192);
  square_product<loraga::bf16, loraga::bf16>(be, how, n, "bf16 product");
  square_product<float, float>(be, how, n, "fp32 product");
  be.products(loraga::float_products::tf32);
  square_product<float, float>(be, how, n, "tf32 product");
  be.products(loraga::float_products::fp32);
  square_product<double, double>(be, how, how.side(4096), "fp64 product");
}

}  // namespace perf

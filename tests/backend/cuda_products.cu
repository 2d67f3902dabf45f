#include <loraga/backend/cuda_products.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using test::host;

static_assert(gpu::has_product<float, float, float> && gpu::has_product<double, double, double>);
static_assert(gpu::has_product<bf16, bf16, float> && gpu::has_product<fp16, fp16, fp16>);
static_assert(!gpu::has_product<bf16, float, float> && !gpu::has_product<bf16, fp16, float>);
static_assert(!gpu::has_product<float, float, bf16> && !gpu::has_product<bf16, bf16, double>);

namespace {

/// c_i = a_i*b_i for `count` matrices, a listed, b and c in slabs, every layout, against the naive product.
void check_batch(index_t count, bool a_by_rows, bool same_strides) {
  auto be = test::make_backend();
  index_t const m = 5, n = 4, k = 3;
  std::vector<matrix<float, backend>> memory;
  std::vector<const_view<float, device_space>> listed;
  slab<float, backend> b(be, count, k, n), c(be, count, n, m);
  for (index_t i = 0; i < count; ++i) {
    auto const seed = static_cast<std::uint64_t>(i);
    host const a = test::random(m, k, seed);
    bool const odd = !same_strides && i % 2;
    memory.push_back(test::upload<float>(be, a_by_rows != odd ? test::transpose(a) : a));
    listed.push_back(a_by_rows != odd ? memory.back().view().transposed() : memory.back().view());
    test::upload_to<float>(be, test::random(k, n, seed + 1000), b.view()[i]);
  }
  auto const out = c.view().transposed();  // by rows
  fill(be, c.view().side_by_side(), NAN);
  be.gemm_batched(2.0, view_list(listed.data(), count), b.view(), 0.0, out);
  for (index_t i = 0; i < count; ++i) {
    auto const seed = static_cast<std::uint64_t>(i);
    INFO(i << " of " << count);
    REQUIRE(test::distance(test::download(be, out[i]),
                           2.0 * (test::random(m, k, seed) * test::random(k, n, seed + 1000))) < 1e-5);
  }
}

}  // namespace

TEST_CASE("listed batches, more than one kernel can carry, in any layout", "[cuda]") {
  for (index_t const count : {1, 2, 64, 65, 130})
    for (bool const by_rows : {false, true}) check_batch(count, by_rows, true);
  check_batch(7, false, false);  // strides that differ: one by one
}

TEST_CASE("strided batches with gaps, and one operand for all", "[cuda]") {
  auto be = test::make_backend();
  slab<double, backend> big(be, 3, 6, 5), c(be, 3, 2, 2);
  for (index_t i = 0; i < 3; ++i) test::upload_to<double>(be, test::random(6, 5, 50 + i), big.view()[i]);
  auto const a = big.view().columns(1, 2).transposed(), b = big.view().columns(3, 2);
  be.gemm_batched(1.0, a, b, 0.0, c.view());
  for (index_t i = 0; i < 3; ++i)
    CHECK(test::distance(test::download(be, c.view()[i]), test::download(be, a[i]) * test::download(be, b[i])) < 1e-13);
  slab_view<double, device_space> const one(b.data, 3, 6, 2, 1, 6, 0);
  be.gemm_batched(1.0, a, one, 1.0, c.view());
  host const twice = test::download(be, a[2]) * (test::download(be, b[2]) + test::download(be, b[0]));
  CHECK(test::distance(test::download(be, c.view()[2]), twice) < 1e-13);
  CHECK_THROWS_AS(be.gemm_batched(1.0, a, one.columns(0, 1), 0.0, c.view()), shape_error);
  CHECK_THROWS_AS(be.gemm_batched(1.0, a, b, 0.0, big.view().matrices(0, 2)), shape_error);
}

TEST_CASE("types that cuBLAS does not take together go through float", "[cuda]") {
  auto be = test::make_backend();
  auto const a = test::upload<bf16>(be, test::random(5, 4, 1));
  const_view<bf16, device_space> const listed[] = {a.view(), a.view()};
  slab<float, backend> x(be, 2, 4, 3), y(be, 2, 5, 3);
  for (index_t i = 0; i < 2; ++i) test::upload_to<float>(be, test::random(4, 3, 7 + i), x.view()[i]);
  be.gemm_batched(1.0, view_list(listed, 2), x.view(), 0.0, y.view());
  CHECK(test::distance(test::download(be, y.view()[1]), test::download(be, a.view()) * test::random(4, 3, 8)) < 1e-5);
}

TEST_CASE("listed members that do not begin on 16 bytes go one by one", "[cuda]") {
  auto be = test::make_backend();
  auto const big = test::upload<bf16>(be, test::random(33, 24, 1));
  auto const b = test::upload<bf16>(be, test::random(8, 5, 2));
  slab<float, backend> c(be, 2, 16, 5);
  for (index_t const offset : {0, 1}) {
    const_view<bf16, device_space> const listed[] = {big.view().row_range(offset, 16).columns(0, 8),
                                                     big.view().row_range(offset, 16).columns(9, 8)};
    const_view<bf16, device_space> const same[] = {b.view(), b.view()};
    CHECK(!gpu::aligned(view_list(listed, 2)));
    be.gemm_batched(1.0, view_list(listed, 2), view_list(same, 2), 0.0, c.view());
    for (index_t i = 0; i < 2; ++i)
      CHECK(test::distance(test::download(be, c.view()[i]),
                           test::download(be, listed[i]) * test::download(be, b.view())) < 1e-5);
  }
  const_view<bf16, device_space> const whole[] = {b.view(), b.view()};
  CHECK(gpu::aligned(view_list(whole, 2)));
}

TEST_CASE("TF32 is used where asked for, and never where precision is asked for", "[cuda]") {
  backend be({.products = float_products::tf32});
  CHECK(be.products() == float_products::tf32);
  index_t const n = 256;
  host const a = test::random(n, n, 1), b = test::random(n, n, 2);
  auto const da = test::upload<float>(be, a), db = test::upload<float>(be, b);
  matrix<float, backend> c(be, n, n);
  host const want = test::download(be, da.view()) * test::download(be, db.view());
  auto const error = [&] {
    be.gemm(1.0, da.view(), db.view(), 0.0, c.view());
    return test::distance(test::download(be, c.view()), want) / std::sqrt(static_cast<double>(n));
  };
  double const coarse = error();
  CHECK(coarse > 2e-5);
  CHECK(coarse < 5e-3);
  {
    auto const precise = be.full_precision();
    CHECK(error() < 5e-6);
  }
  CHECK(be.products() == float_products::tf32);
  CHECK(error() == coarse);
  be.products(float_products::fp32);
  CHECK(error() < 5e-6);

  // an SVD's vectors are orthonormal all the same
  be.products(float_products::tf32);
  auto const f = test::factor(be, subspace{.iterations = 2}, c, 8);
  CHECK(test::orthonormality(test::download(be, f[0].u)) < 1e-5);
  CHECK(test::orthonormality(test::download(be, f[0].v)) < 1e-5);
  CHECK(be.products() == float_products::tf32);
}

#include <loraga/backend/cuda_products.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

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

TEST_CASE("a prepared list is the same list, cut and transposed as well", "[cuda]") {
  auto be = test::make_backend();
  index_t const count = 70;
  std::vector<matrix<float, backend>> memory;
  std::vector<const_view<float, device_space>> listed;
  for (index_t i = 0; i < count; ++i) {
    memory.push_back(test::upload<float>(be, test::random(4, 3, static_cast<std::uint64_t>(i))));
    listed.push_back(memory.back().view());
  }
  auto const b = test::upload<float>(be, test::random(4, 2, 99));
  slab_view<float const, device_space> const same(b.view().data, count, 4, 2, 1, 4, 0);
  slab<float, backend> c(be, count, 3, 2);
  scratch<backend> temporary(be);
  auto const list = be.prepared(temporary, view_list(listed.data(), count));
  CHECK(list.addresses != nullptr);
  CHECK(be.prepared(temporary, list).addresses == list.addresses);
  auto const check = [&](auto const& a, index_t first) {
    auto const out = c.view().matrices(first, a.count);
    fill(be, c.view().side_by_side(), NAN);
    be.gemm_batched(1.0, a, same.matrices(first, a.count), 0.0, out);
    for (index_t i = 0; i < a.count; ++i)
      REQUIRE(test::distance(test::download(be, out[i]), test::download(be, a[i]) * test::download(be, b.view())) <
              1e-5);
  };
  check(list.transposed(), 0);
  check(list.matrices(5, 64).transposed(), 5);
  check(list.transposed().matrices(66, 4), 66);
  CHECK(be.prepared(temporary, view_list(listed.data(), 1)).addresses == nullptr);  // is no batch
  CHECK(detail::prepared(be, temporary, view_list(listed.data(), count)).addresses != nullptr);
}

TEST_CASE("addresses reach the device, however many, and in a captured step as well", "[cuda]") {
  auto be = test::make_backend();
  for (index_t const n : {1, 31, 32, 33, 300})
    for (bool const captured : {false, true}) {
      std::vector<const_view<char, device_space>> views;
      for (index_t i = 0; i < n; ++i)
        views.push_back({reinterpret_cast<char const*>(static_cast<std::uintptr_t>(7 * i + 1)), 1, 1, 1, 1});
      slab_view<char, device_space> const slab(reinterpret_cast<char*>(std::uintptr_t{50}), n, 1, 1, 1, 1, 3);
      { scratch<backend>(be).matrix<char>(1 << 15, 1); }  // a captured step allocates nothing
      scratch<backend> temporary(be);
      cudaGraph_t graph = nullptr;
      [[maybe_unused]] cudaGraphExec_t runs = nullptr;
      if (captured) REQUIRE(cudaStreamBeginCapture(be.stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
      auto const lists = gpu::addresses(be, temporary, n, slab, view_list(views), slab);
      if (captured) {
        REQUIRE(cudaStreamEndCapture(be.stream(), &graph) == cudaSuccess);
        views.clear();  // what a graph has captured is not read again
#ifndef LORAGA_TEST_DOUBLE
        REQUIRE(cudaGraphInstantiate(&runs, graph, 0) == cudaSuccess);
        REQUIRE(cudaGraphLaunch(runs, be.stream()) == cudaSuccess);
#endif
      }
      for (std::size_t list = 0; list < 3; ++list) {
        auto const got = read_all(be, matrix_view<void*, device_space>(lists[list], n, 1, 1, n));
        for (index_t i = 0; i < n; ++i)
          REQUIRE(reinterpret_cast<std::uintptr_t>(got[static_cast<std::size_t>(i)]) ==
                  static_cast<std::uintptr_t>(list == 1 ? 7 * i + 1 : 3 * i + 50));
      }
#ifndef LORAGA_TEST_DOUBLE
      if (runs) cudaGraphExecDestroy(runs);
#endif
      if (graph) cudaGraphDestroy(graph);
    }
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("lists of a model's size: one launch a product, and a copy where the list was not prepared", "[cuda]") {
  device_double::dry(true);
  {
    backend be;
    index_t const count = 128, n = 4096, width = 640;
    slab<float, backend> all(be, count, n, n), x(be, count, n, width), y(be, count, n, width);
    slab<double, backend> s(be, count, width, width);
    slab_view<double, device_space> const small(s.view().data, count, 64, 64, 1, 64, 64 * 64);
    std::vector<const_view<float, device_space>> views;
    for (index_t i = 0; i < count; ++i) views.push_back(all.view()[i]);
    auto const did = [&](auto const& work) {
      auto const before = device_double::counted();
      work();
      return device_double::counted() - before;
    };
    view_list const list(views);
    auto const plain = did([&] { be.gemm_batched(1.0, list, x.view(), 0.0, y.view()); });
    CHECK(plain.kernels == 1);
    CHECK(plain.copies == 1);
    CHECK(plain.products == 1);
    scratch<backend> temporary(be);
    auto const prepared = be.prepared(temporary, list);
    CHECK(did([&] { be.gemm_batched(1.0, prepared.transposed(), y.view(), 0.0, x.view()); }).launches() == 2);
    CHECK(did([&] { be.gram_batched(y.view(), s.view()); }).launches() == 24);  // 3 shares of members, 4 of rows
    CHECK(did([&] { be.gram_batched(y.view().columns(0, 64), small); }).launches() == 2);
  }
  device_double::dry(false);
}
#endif

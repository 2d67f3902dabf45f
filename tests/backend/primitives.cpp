// The primitives of the contract, asked of every backend in the same words.
#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using test::download;
using test::host;
using test::upload;

namespace {

/// c = alpha*a*b + beta*c for all layouts of the three, against the naive product.
template <class TA, class TB, class TC>
void check_gemm(index_t m, index_t n, index_t k, double alpha, double beta, double tolerance) {
  auto be = test::make_backend(2);
  host const a = test::random(m, k, 1), b = test::random(k, n, 2), c = test::random(m, n, 3);
  auto const held = [&]<class T>(T, host const& x) { return download(be, upload<T>(be, x).view()); };  // as rounded
  host const expected = alpha * (held(TA{}, a) * held(TB{}, b)) + beta * held(TC{}, c);
  auto const layout = [&]<class T>(T, host const& x, bool by_rows) {
    return upload<T>(be, by_rows ? test::transpose(x) : x);
  };
  for (int bits = 0; bits < 8; ++bits) {
    bool const ra = bits & 1, rb = bits & 2, rc = bits & 4;
    auto da = layout(TA{}, a, ra);
    auto db = layout(TB{}, b, rb);
    auto dc = layout(TC{}, c, rc);
    auto const va = ra ? da.view().transposed() : da.view();
    auto const vb = rb ? db.view().transposed() : db.view();
    auto const vc = rc ? dc.view().transposed() : dc.view();
    be.gemm(alpha, va, vb, beta, vc);
    INFO(m << "x" << n << "x" << k << " layouts " << bits);
    CHECK(test::distance(download(be, vc), expected) < tolerance * (1 + test::largest(expected)));
  }
}

}  // namespace

TEST_CASE("gemm equals the naive product in every layout and type", "[backend]") {
  check_gemm<float, float, float>(7, 5, 3, 1, 0, 1e-6);
  check_gemm<float, float, float>(1, 9, 4, 2, 0.5, 1e-6);
  check_gemm<float, float, float>(9, 1, 4, -1, 1, 1e-6);
  check_gemm<float, float, float>(600, 530, 40, 0.5, 1, 1e-5);
  check_gemm<double, double, double>(130, 70, 600, 1, -2, 1e-13);
  check_gemm<bf16, float, float>(33, 20, 17, 1, 1, 1e-6);
  check_gemm<fp16, bf16, float>(33, 20, 17, 1, 0, 1e-6);
  check_gemm<float, float, bf16>(33, 20, 17, 1, 1, 1.0 / 256);
  check_gemm<bf16, bf16, fp16>(33, 20, 17, 2, 1, 1.0 / 2048);
  check_gemm<float, float, double>(12, 8, 9, 1, 0, 1e-13);
}

TEST_CASE("a 16-bit result is rounded once, from a float sum", "[backend]") {
  auto be = test::make_backend(1);
  index_t const k = 4096;
  auto ones = upload<bf16>(be, host(1, k, 1.0));
  auto c = upload<bf16>(be, host(1, 1, 0.0));
  be.gemm(1.0, ones.view(), ones.view().transposed(), 0.0, c.view());
  CHECK(download(be, c.view())(0, 0) == 4096);  // summed in bf16 it would stop at 256
}

TEST_CASE("beta = 0 never reads the result, an empty depth leaves beta*c", "[backend]") {
  auto be = test::make_backend(1);
  auto a = upload<float>(be, test::random(3, 2, 1)), b = upload<float>(be, test::random(2, 3, 2));
  auto c = upload<float>(be, host(3, 3, NAN));
  be.gemm(1.0, a.view(), b.view(), 0.0, c.view());
  CHECK(std::isfinite(test::largest(download(be, c.view()))));
  auto d = upload<float>(be, host(3, 3, 2.0));
  matrix<float, backend> empty_a(be, 3, 0), empty_b(be, 0, 3);
  be.gemm(1.0, empty_a.view(), empty_b.view(), 0.5, d.view());
  CHECK(test::distance(download(be, d.view()), host(3, 3, 1.0)) == 0);
}

TEST_CASE("bad products are refused by name and change nothing", "[backend]") {
  auto be = test::make_backend(1);
  auto a = upload<float>(be, test::random(3, 2, 1)), b = upload<float>(be, test::random(2, 3, 2));
  auto c = upload<float>(be, test::random(3, 3, 3));
  auto const before = download(be, c.view());
  CHECK_THROWS_AS(be.gemm(1.0, a.view(), a.view(), 0.0, c.view()), shape_error);
  CHECK_THROWS_AS(be.gemm(1.0, b.view(), a.view(), 0.0, c.view()), shape_error);
  CHECK_THROWS_AS(be.gemm(1.0, c.view(), c.view(), 0.0, c.view()), alias_error);
  test::view<float> const gaps(c.view().data, 2, 2, 2, 4);
  CHECK_THROWS_AS(be.gemm(1.0, gaps, b.view().columns(0, 2), 0.0, c.view().columns(0, 2).row_range(0, 2)), shape_error);
  CHECK(test::distance(download(be, c.view()), before) == 0);
}

TEST_CASE("batched forms equal single ones", "[backend]") {
  auto be = test::make_backend(2);
  host const a = test::random(6, 4, 1), b = test::random(6, 4, 2), x = test::random(4, 3, 3);
  auto da = upload<float>(be, a), db = upload<float>(be, b), dx = upload<float>(be, x);
  const_view<float, test::space> const views[] = {da.view(), db.view()};
  slab<float, backend> y(be, 2, 6, 3);
  slab_view<float, test::space> const repeated(dx.view().data, 2, 4, 3, 1, 4, 0);
  be.gemm_batched(1.0, view_list(views, 2), repeated, 0.0, y.view());
  CHECK(test::distance(download(be, y.view()[0]), a * x) < 1e-6);
  CHECK(test::distance(download(be, y.view()[1]), b * x) < 1e-6);
  CHECK_THROWS_AS(be.gemm_batched(1.0, view_list(views, 1), repeated, 0.0, y.view()), shape_error);
  slab<double, backend> s(be, 2, 4, 4);
  be.gram_batched(view_list(views, 2), s.view());
  CHECK(test::distance(download(be, s.view()[1]), test::transpose(download(be, db.view())) * download(be, db.view())) <
        1e-12);
}

TEST_CASE("a Gram matrix is summed in double", "[backend]") {
  auto be = test::make_backend(1);
  // 1 + 1e-6 in every entry of a column: sums of squares in float lose the 1e-6 long before 2000 rows
  host const y = test::generate(2000, 1, [](index_t i, index_t) { return i % 2 ? 1.0 : 4097.0; });
  auto dy = upload<float>(be, y);
  slab<double, backend> s(be, 1, 1, 1);
  be.gram_batched(slab_view(dy.view()), s.view());
  CHECK(read_scalar(be, s.view()[0]) == 1000.0 * (4097.0 * 4097.0 + 1));
}

TEST_CASE("cholesky_inverse gives R^-1, or the identity and a flag", "[backend]") {
  auto be = test::make_backend(1);
  host const y = test::random(20, 5, 1), s = test::transpose(y) * y;
  slab<double, backend> d(be, 2, 5, 5);
  slab<int, backend> flags(be, 2, 1, 1);
  fill(be, flags.view().side_by_side(), 0);
  test::upload_to<double>(be, s, d.view()[0]);
  host singular = s;
  for (index_t i = 0; i < 5; ++i) singular(i, 4) = singular(4, i) = singular(i, 3);
  singular(4, 4) = singular(3, 3);
  test::upload_to<double>(be, singular, d.view()[1]);
  be.cholesky_inverse_batched(d.view(), 1e-14, 0, flags.view());
  host const r = download(be, d.view()[0]);
  CHECK(test::distance(test::transpose(r) * s * r, test::identity(5)) < 1e-12);
  CHECK(r(3, 1) == 0);
  CHECK(read_all(be, flags.view().side_by_side()) == std::vector<int>{0, svd_ill_conditioned});
  CHECK(test::distance(download(be, d.view()[1]), test::identity(5)) == 0);
  test::upload_to<double>(be, 0.4 * test::identity(5), d.view()[0]);
  be.cholesky_inverse_batched(d.view().matrices(0, 1), 0, 0.5, flags.view().matrices(0, 1));
  CHECK(read_scalar(be, flags.view()[0]) == svd_ill_conditioned);  // an absolute limit
  fill(be, flags.view()[0], 0);
  test::upload_to<double>(be, host(5, 5, NAN), d.view()[0]);
  be.cholesky_inverse_batched(d.view().matrices(0, 1), 1e-14, 0, flags.view().matrices(0, 1));
  CHECK(read_scalar(be, flags.view()[0]) == svd_ill_conditioned);
}

TEST_CASE("eigh gives all values, descending, and the leading vectors", "[backend]") {
  auto be = test::make_backend(1);
  for (index_t const n : {1, 2, 3, 20, 45, 100}) {
    INFO(n);
    host const y = test::with_spectrum(n + 3, n, test::geometric(n, 0.8), 5), s = test::transpose(y) * y;
    slab<double, backend> d(be, 1, n, n), values(be, 1, n, 1);
    slab<int, backend> flags(be, 1, 1, 1);
    fill(be, flags.view()[0], 0);
    test::upload_to<double>(be, s, d.view()[0]);
    index_t const k = (n + 1) / 2;
    be.eigh_batched(d.view(), k, values.view(), flags.view());
    host const w = test::columns(download(be, d.view()[0]), 0, k), lambda = download(be, values.view()[0]);
    CHECK(read_scalar(be, flags.view()[0]) == 0);
    CHECK(test::orthonormality(w) < 1e-12);
    CHECK(test::distance(s * w, w * test::diagonal(k, k, lambda.data)) < 1e-12);
    for (index_t i = 0; i < n; ++i) CHECK(lambda(i, 0) == Approx(std::pow(0.64, static_cast<double>(i))).margin(1e-13));
  }
  for (double const scale : {1e-60, 1e-20, 1e40}) {  // entries far from 1
    host const y = test::with_spectrum(12, 9, test::geometric(9, 0.8), 5), s = scale * (test::transpose(y) * y);
    slab<double, backend> d(be, 1, 9, 9), values(be, 1, 9, 1);
    slab<int, backend> flags(be, 1, 1, 1);
    fill(be, flags.view()[0], 0);
    test::upload_to<double>(be, s, d.view()[0]);
    be.eigh_batched(d.view(), 9, values.view(), flags.view());
    host const w = download(be, d.view()[0]), lambda = download(be, values.view()[0]);
    CHECK(test::distance(s * w, w * test::diagonal(9, 9, lambda.data)) < 1e-12 * scale);
  }
  slab<double, backend> d(be, 1, 3, 3), values(be, 1, 3, 1);
  slab<int, backend> flags(be, 1, 1, 1);
  fill(be, flags.view()[0], 0);
  fill(be, d.view()[0], NAN);
  be.eigh_batched(d.view(), 3, values.view(), flags.view());
  CHECK(read_scalar(be, flags.view()[0]) == svd_not_converged);
}

TEST_CASE("eigenvectors of a matrix of low rank are orthonormal", "[backend]") {
  // Of rank 1 to 20 in 120: reducing it leaves rounding of rounding of ..., far below the square root of the smallest
  // number.
  auto be = test::make_backend();
  index_t const n = 120;
  for (index_t const rank : {1, 3, 20}) {
    host const y = test::generate(rank, n, [](index_t i, index_t j) { return 1.0 + static_cast<double>(i * j % 7); });
    host const s = test::transpose(y) * y;
    slab<double, backend> d(be, 1, n, n), values(be, 1, n, 1);
    slab<int, backend> flags(be, 1, 1, 1);
    fill(be, flags.view()[0], 0);
    test::upload_to<double>(be, s, d.view()[0]);
    be.eigh_batched(d.view(), n, values.view(), flags.view());
    CHECK(read_scalar(be, flags.view()[0]) == svd_usable);
    CHECK(test::orthonormality(download(be, d.view()[0])) < 1e-12);
  }
}

TEST_CASE("work over a batch runs on backends of its own and keeps exceptions", "[backend]") {
  auto be = test::make_backend(3);
  std::vector<double> sums(8);
  be.for_each_chunk(8, [&](backend& worker, index_t first, index_t n) {
    for (index_t i = first; i < first + n; ++i) {
      auto m = upload<float>(worker, host(10, 10, static_cast<double>(i)));
      scratch<backend> temporary(worker);
      auto const cell = temporary.matrix<double>(1, 1);
      sum_of_squares(worker, m.view(), cell);
      sums[static_cast<std::size_t>(i)] = read_scalar(worker, cell);
    }
  });
  for (index_t i = 0; i < 8; ++i) CHECK(sums[static_cast<std::size_t>(i)] == 100.0 * static_cast<double>(i * i));
  CHECK_THROWS_AS(be.for_each_chunk(4, [](backend&, index_t, index_t) { throw numeric_error("x"); }), numeric_error);
}

TEST_CASE("copies keep shape and type", "[backend]") {
  auto be = test::make_backend(2);
  host const a = test::random(5, 3, 1);
  auto d = upload<float>(be, a);
  matrix<float, backend> e(be, 3, 5);
  be.copy(d.view(), e.view().transposed());
  CHECK(test::distance(download(be, e.view().transposed()), download(be, d.view())) == 0);
  CHECK_THROWS_AS(be.copy(d.view(), e.view()), shape_error);
}

TEST_CASE("copies between overlapping places are refused", "[backend]") {
  auto be = test::make_backend(1);
  auto d = upload<float>(be, test::random(6, 6, 1));
  host const before = download(be, d.view());
  CHECK_THROWS_AS(be.copy(d.view(), d.view().transposed()), alias_error);
  CHECK_THROWS_AS(be.copy(d.view().columns(0, 3), d.view().columns(1, 3)), alias_error);
  CHECK_NOTHROW(be.copy(d.view(), d.view()));
  CHECK(test::distance(download(be, d.view()), before) == 0);
}

TEST_CASE("a single row or column may have any stride", "[backend]") {
  auto be = test::make_backend(1);
  host const all = test::random(4, 9, 1), right = test::random(9, 3, 2), left = test::random(5, 1, 3);
  auto d = upload<float>(be, all), r = upload<float>(be, right), l = upload<float>(be, left);
  auto const row = d.view().row_range(1, 1);  // strides 1 and 4
  for (auto const strided : {row, test::view<float>(row.data, 1, 9, 36, 4), test::view<float>(row.data, 1, 9, 0, 4)}) {
    matrix<float, backend> c(be, 1, 3), e(be, 5, 9), f(be, 3, 1);
    be.gemm(1, strided, r.view(), 0, c.view());
    CHECK(test::distance(download(be, c.view()), test::rows(all, 1, 1) * right) < 1e-5);
    be.gemm(1, r.view().transposed(), strided.transposed(), 0, f.view());
    CHECK(test::distance(download(be, f.view()), test::transpose(test::rows(all, 1, 1) * right)) < 1e-5);
    be.gemm(1, l.view(), strided, 0, e.view());
    CHECK(test::distance(download(be, e.view()), left * test::rows(all, 1, 1)) < 1e-5);
  }
  host const x = test::random(1, 5, 4), w = test::random(5, 9, 5);
  auto dx = upload<float>(be, x), dw = upload<float>(be, w);
  be.gemm(1, dx.view(), dw.view(), 0, row);  // and the result may be one
  CHECK(test::distance(download(be, row), x * w) < 1e-5);
  CHECK(test::distance(test::rows(download(be, d.view()), 2, 2), test::rows(all, 2, 2)) < 1e-7);
}

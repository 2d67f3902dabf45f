#include "self_check.hpp"

// The double's cuSOLVER against naive formulas.

using namespace device_double::check;

namespace {

template <class T, class F, class D>
auto pick(F in_float, D in_double) {
  if constexpr (std::is_same_v<T, float>) return in_float;
  else return in_double;
}

}  // namespace

TEST_CASE("Cholesky of the double", "[device_double]") {
  index_t const n = 5, ld = 7;
  host const root = test::random(n, n, 9), s = transpose(root) * root + test::identity(n);
  host bad = s;
  bad(2, 2) = -1;
  for (auto const uplo : {CUBLAS_FILL_MODE_UPPER, CUBLAS_FILL_MODE_LOWER}) {
    device<double> const good(s, ld), broken(bad, ld);
    device<double*> const list(2);
    device<int> const info(2);
    list.p[0] = good.p, list.p[1] = broken.p;
    solver const handle;
    REQUIRE(cusolverDnDpotrfBatched(handle.h, uplo, n, list.p, ld, info.p, 2) == 0);
    CHECK(info.p[0] == 0);
    CHECK(info.p[1] == 3);
    host r = good.get(n, n, ld);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i)
        if (uplo == CUBLAS_FILL_MODE_UPPER ? i > j : i < j) r(i, j) = 0;
    CHECK(distance(uplo == CUBLAS_FILL_MODE_UPPER ? transpose(r) * r : r * transpose(r), s) < 1e-12);
  }
}

TEMPLATE_TEST_CASE("eigenpairs of the double", "[device_double]", float, double) {
  using T = TestType;
  index_t const n = 6, ld = 8, count = 2;
  double const tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;
  host const root = test::random(n, n, 10), s = root + transpose(root);
  for (auto const uplo : {CUBLAS_FILL_MODE_UPPER, CUBLAS_FILL_MODE_LOWER}) {
    device<T> const a(static_cast<std::size_t>(ld * n * count)), w(static_cast<std::size_t>(n * count));
    for (index_t b = 0; b < count; ++b)  // the other triangle stays NaN
      for (index_t j = 0; j < n; ++j)
        for (index_t i = 0; i < n; ++i)
          if (uplo == CUBLAS_FILL_MODE_UPPER ? i <= j : i >= j)
            a.p[i + j * ld + b * ld * n] = static_cast<T>(double(b + 1) * s(i, j));
    device<int> const info(2);
    solver const handle;
    std::size_t on_device = 0, on_host = 0;
    REQUIRE(cusolverDnXsyevBatched_bufferSize(handle.h, handle.params, CUSOLVER_EIG_MODE_VECTOR, uplo, n, type<T>, a.p,
                                              ld, type<T>, w.p, type<T>, &on_device, &on_host, count) == 0);
    device_double::info_next("cusolverDnXsyevBatched", 4);
    with_room(on_device, on_host, [&](void* d, void* h) {
      return cusolverDnXsyevBatched(handle.h, handle.params, CUSOLVER_EIG_MODE_VECTOR, uplo, n, type<T>, a.p, ld,
                                    type<T>, w.p, type<T>, d, on_device, h, on_host, info.p, count);
    });
    CHECK(info.p[0] == 4);
    CHECK(info.p[1] == 0);
    host const v = test::generate(n, n, [&](index_t i, index_t j) { return double(a.p[i + j * ld + ld * n]); });
    host const d = test::generate(n, n, [&](index_t i, index_t j) { return i == j ? double(w.p[n + i]) : 0.0; });
    CHECK(distance(v * d * transpose(v), 2.0 * s) < 10 * tolerance);
    CHECK(distance(transpose(v) * v, test::identity(n)) < tolerance);
    CHECK(std::is_sorted(w.p, w.p + n));
  }
}

TEMPLATE_TEST_CASE("singular values by every driver of the double", "[device_double]", float, double) {
  using T = TestType;
  index_t const m = 7, n = 4, k = 2;
  cudaDataType const t = type<T>;
  double const tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;
  host const x = test::random(m, n, 12);
  device<T> const a(x, 8), s(4), u(9 * 4), v(6 * 4);
  device<int> const info(1);
  solver const c;
  std::size_t on_device = 0, on_host = 0;
  auto const compare = [&](host const& right, index_t found) {
    host const left = u.get(m, found, 9);
    host const d = test::generate(found, found, [&](index_t i, index_t j) { return i == j ? double(s.p[i]) : 0.0; });
    CHECK(distance(transpose(left) * left, test::identity(found)) < tolerance);
    CHECK(distance(transpose(right) * right, test::identity(found)) < tolerance);
    CHECK(distance(transpose(left) * x * right, d) < tolerance * 10);
    CHECK(std::is_sorted(s.p, s.p + found, std::greater<>()));
    CHECK(*info.p == 0);
    if (found == n) CHECK(distance(left * d * transpose(right), x) < tolerance * 10);
  };

  REQUIRE(cusolverDnXgesvd_bufferSize(c.h, c.params, 'S', 'S', m, n, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6, t,
                                      &on_device, &on_host) == 0);
  with_room(on_device, on_host, [&](void* d, void* h) {
    return cusolverDnXgesvd(c.h, c.params, 'S', 'S', m, n, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6, t, d, on_device, h,
                            on_host, info.p);
  });
  compare(transpose(v.get(n, n, 6)), n);
  CHECK(std::isnan(a.p[0]));
  CHECK(cusolverDnXgesvd_bufferSize(c.h, c.params, 'S', 'S', n, m, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6, t,
                                    &on_device, &on_host) == CUSOLVER_STATUS_INVALID_VALUE);

  auto const refill = [&] {
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) a.p[i + j * 8] = static_cast<T>(x(i, j));
    std::memset(v.p, 0xFF, 24 * sizeof(T));
    std::memset(u.p, 0xFF, 36 * sizeof(T));
  };
  refill();
  double perturbation = -1;
  REQUIRE(cusolverDnXgesvdp_bufferSize(c.h, c.params, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, t, a.p, 8, t, s.p, t, u.p, 9,
                                       t, v.p, 6, t, &on_device, &on_host) == 0);
  with_room(on_device, on_host, [&](void* d, void* h) {
    return cusolverDnXgesvdp(c.h, c.params, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6,
                             t, d, on_device, h, on_host, info.p, &perturbation);
  });
  compare(v.get(n, n, 6), n);
  CHECK(perturbation == 0);

  refill();
  REQUIRE(cusolverDnXgesvdr_bufferSize(c.h, c.params, 'S', 'S', m, n, k, 2, 3, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6,
                                       t, &on_device, &on_host) == 0);
  with_room(on_device, on_host, [&](void* d, void* h) {
    return cusolverDnXgesvdr(c.h, c.params, 'S', 'S', m, n, k, 2, 3, t, a.p, 8, t, s.p, t, u.p, 9, t, v.p, 6, t, d,
                             on_device, h, on_host, info.p);
  });
  compare(v.get(n, k, 6), k);

  refill();
  int length = 0;
  auto const vectors = CUSOLVER_EIG_MODE_VECTOR;
  auto* const jacobi_room = pick<T>(&cusolverDnSgesvdj_bufferSize, &cusolverDnDgesvdj_bufferSize);
  auto* const jacobi = pick<T>(&cusolverDnSgesvdj, &cusolverDnDgesvdj);
  REQUIRE(jacobi_room(c.h, vectors, 1, m, n, a.p, 8, s.p, u.p, 9, v.p, 6, &length, c.jacobi) == 0);
  device<T> const work(static_cast<std::size_t>(length));
  REQUIRE(jacobi(c.h, vectors, 1, m, n, a.p, 8, s.p, u.p, 9, v.p, 6, work.p, length, info.p, c.jacobi) == 0);
  compare(v.get(n, n, 6), n);

  refill();
  double residual = -1;
  auto* const tall_room =
      pick<T>(&cusolverDnSgesvdaStridedBatched_bufferSize, &cusolverDnDgesvdaStridedBatched_bufferSize);
  auto* const tall = pick<T>(&cusolverDnSgesvdaStridedBatched, &cusolverDnDgesvdaStridedBatched);
  REQUIRE(tall_room(c.h, vectors, 4, m, n, a.p, 8, 32, s.p, 4, u.p, 9, 36, v.p, 6, 24, &length, 1) == 0);
  device<T> const room(static_cast<std::size_t>(length));
  REQUIRE(tall(c.h, vectors, 4, m, n, a.p, 8, 32, s.p, 4, u.p, 9, 36, v.p, 6, 24, room.p, length, info.p, &residual,
               1) == 0);
  compare(v.get(n, n, 6), n);
  CHECK((residual >= 0 && residual < 10 * tolerance));
  CHECK(a.p[0] == static_cast<T>(x(0, 0)));
}

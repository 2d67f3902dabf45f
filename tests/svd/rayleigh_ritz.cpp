#include <loraga/svd/rayleigh_ritz.hpp>

#include "checks.hpp"

using test::host;

TEST_CASE("Rayleigh-Ritz gives the best triplets within a subspace, completed where sigma is noise", "[svd]") {
  auto be = test::make_backend();
  host const a = test::with_spectrum(30, 20, {5, 3, 2, 1e-9}, 1);
  auto const want = test::jacobi_svd(a);
  // a basis that holds the leading three left vectors, mixed, and two that A maps to nothing
  host const q = test::columns(want.u, 0, 6) * test::orthonormal(6, 6, 9);
  auto dq = test::upload<float>(be, q);
  auto dz = test::upload<float>(be, test::transpose(a) * q);
  loraga::slab<float, test::backend> u(be, 1, 30, 5), s(be, 1, 5, 1), v(be, 1, 20, 5);
  for (auto const how : {loraga::caution::optimistic, loraga::caution::safe}) {
    loraga::slab<double, test::backend> gram(be, 1, 6, 6);
    loraga::slab<int, test::backend> flags(be, 1, 1, 1);
    fill(be, flags.view()[0], 0);
    be.gram_batched(loraga::slab_view(dz.view()), gram.view());
    loraga::rayleigh_ritz(
        be, gram.view(), loraga::triplet_slabs<float, test::space>{u.view(), s.view(), v.view()}, how, {1, 2},
        flags.view(), [&](auto w, auto to) { be.gemm_batched(1.0, loraga::slab_view(dq.view()), w, 0.0, to); },
        [&](auto w, auto to) { be.gemm_batched(1.0, loraga::slab_view(dz.view()), w, 0.0, to); });
    CHECK(loraga::read_scalar(be, flags.view()[0]) == 0);
    host const hu = test::download(be, u.view()[0]), hv = test::download(be, v.view()[0]);
    auto const hs = test::download(be, s.view()[0]).data;
    CHECK(hs[0] == Approx(5).epsilon(1e-5));
    CHECK(hs[2] == Approx(2).epsilon(1e-5));
    CHECK(hs[3] == 0);
    CHECK(hs[4] == 0);
    CHECK(test::orthonormality(hu) < 1e-5);
    CHECK(test::orthonormality(hv) < 1e-5);
    CHECK(test::subspace_distance(test::columns(hv, 0, 3), test::columns(want.v, 0, 3)) < 1e-4);
  }
}

#include <loraga/svd/driver.hpp>

#include "checks.hpp"

namespace {

/// Breaks down when asked optimistically, for matrices whose first entry is negative.
struct breaking_method {
  int* safe_runs;
  template <class Op, class T>
  void run(test::backend& be, Op const& op, loraga::triplet_slabs<T, test::space> out,
           loraga::slab_view<int, test::space> flags, loraga::caution how) const {
    for (loraga::index_t b = 0; b < op.count(); ++b) {
      fill(be, out.u[b], how == loraga::caution::safe ? 2 : 1);
      fill(be, out.s[b], 4);
      fill(be, out.v[b], 1);
      bool const breaks = loraga::read_all(be, op.a[b])[0] < 0;
      if (how == loraga::caution::safe) ++*safe_runs;
      else if (breaks) fill(be, flags[b], loraga::svd_ill_conditioned);
    }
  }
};

}  // namespace

TEST_CASE("what breaks down is repeated with caution, and only that", "[svd]") {
  auto be = test::make_backend();
  std::vector<loraga::matrix<float, test::backend>> memory;
  std::vector<loraga::matrix_view<float const, test::space>> views;
  for (double const first : {1.0, -1.0, 1.0}) {
    memory.push_back(test::upload<float>(be, test::host(4, 3, first)));
    views.push_back(memory.back().view());
  }
  int safe_runs = 0;
  auto const r =
      loraga::factor_batch(be, breaking_method{&safe_runs}, loraga::view_list(views.data(), 3), 2, {}, "test");
  CHECK(safe_runs == 1);
  CHECK(r.flags == std::vector<int>{0, 0, 0});
  CHECK(test::download(be, r[0].u)(0, 0) == 1);
  CHECK(test::download(be, r[1].u)(0, 0) == 2);
  CHECK(test::download(be, r[2].u)(0, 0) == 1);
  CHECK(test::download(be, r[1].s)(0, 0) == 4);
}

TEST_CASE("singular values too large for the type are not usable", "[svd]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::host(400, 400, 2e36));
  CHECK(test::factor(be, loraga::gram{}, a, 2).flags[0] == loraga::svd_not_finite);
  loraga::incremental_gradient<test::backend> g(be, 400, 400, {.rank = 2});
  g.add(be, a.view());
  CHECK((g.top(be, loraga::gram{}, 2).flags[0] & loraga::svd_not_finite) != 0);
}

TEST_CASE("extreme norms are scaled by a power of two, and sigma scaled back", "[svd]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::host(4, 3, 1e-25));
  loraga::matrix_view<float const, test::space> const one = a.view();
  int safe_runs = 0;
  auto const r = loraga::factor_batch(be, breaking_method{&safe_runs}, loraga::view_list(&one, 1), 1, {}, "test");
  double const s = test::download(be, r[0].s)(0, 0);
  CHECK(std::log2(s / 4) == std::round(std::log2(s / 4)));
  CHECK(s < 1e-23);
}

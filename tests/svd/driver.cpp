#include <loraga/svd/driver.hpp>

#include "checks.hpp"

namespace {

/// Answers with columns of the identity. Breaks down when asked optimistically, for matrices whose first entry is
/// negative; the first value is 5 when asked safely, else 4.
struct breaking_method {
  int* safe_runs;
  double u00 = 1, s0 = 0, s1 = 1, safe_u00 = 1;  // what an answer has there
  template <class Op, class T>
  void run(test::backend& be, Op const& op, loraga::triplet_slabs<T, test::space> out,
           loraga::slab_view<int, test::space> flags, loraga::caution how) const {
    loraga::index_t const k = out.s.rows;
    for (loraga::index_t b = 0; b < op.count(); ++b) {
      bool const safe = how == loraga::caution::safe;
      auto u = test::identity(4), v = test::identity(3);
      u(0, 0) = safe ? safe_u00 : u00;
      test::upload_to<T>(be, test::columns(u, 0, k), out.u[b]);
      test::upload_to<T>(be, test::columns(v, 0, k), out.v[b]);
      test::host s(k, 1, s1);
      s(0, 0) = s0 != 0 ? s0 : safe ? 5 : 4;
      test::upload_to<T>(be, s, out.s[b]);
      bool const breaks = loraga::read_all(be, op.a[b])[0] < 0;
      if (safe) ++*safe_runs;
      else if (breaks) fill(be, flags[b], loraga::svd_ill_conditioned);
    }
  }
};

}  // namespace

TEST_CASE("what breaks down is repeated with caution, and only that", "[svd]") {
  auto be = test::make_backend();
  std::vector<loraga::matrix<float, test::backend>> memory;
  std::vector<loraga::matrix_view<float const, test::space>> views;
  for (double const first : {10.0, -10.0, 10.0}) {
    memory.push_back(test::upload<float>(be, test::host(4, 3, first)));
    views.push_back(memory.back().view());
  }
  int safe_runs = 0;
  auto const r =
      loraga::factor_batch(be, breaking_method{&safe_runs}, loraga::view_list(views.data(), 3), 2, {}, "test");
  CHECK(safe_runs == 1);
  CHECK(r.flags == std::vector<int>{0, 0, 0});
  CHECK(test::download(be, r[0].s)(0, 0) == 4);
  CHECK(test::download(be, r[1].s)(0, 0) == 5);
  CHECK(test::download(be, r[2].s)(0, 0) == 4);
}

#ifdef LORAGA_TEST_CUDA  // where looks cost more than work
namespace {

/// Breaks down for negative first entries, also with noise where they are below -15.
struct noise_taking_method {
  static constexpr bool takes_noise = true;
  std::vector<loraga::index_t>* noisy_runs;
  int* safe_runs;
  template <class Op, class T>
  void run(test::backend& be, Op const& op, loraga::triplet_slabs<T, test::space> out,
           loraga::slab_view<int, test::space> flags, loraga::caution how) const {
    if (how == loraga::caution::noisy) noisy_runs->push_back(op.count());
    if (how == loraga::caution::safe) ++*safe_runs;
    for (loraga::index_t b = 0; b < op.count(); ++b) {
      double const first = loraga::read_all(be, op.a[b])[0];
      test::upload_to<T>(be, test::columns(test::identity(4), 0, out.s.rows), out.u[b]);
      test::upload_to<T>(be, test::columns(test::identity(3), 0, out.s.rows), out.v[b]);
      test::upload_to<T>(be, test::host(out.s.rows, 1, how == loraga::caution::optimistic ? 1 : std::abs(first)),
                         out.s[b]);
      double const least = how == loraga::caution::optimistic ? 0 : how == loraga::caution::noisy ? -15 : -1e9;
      if (first < least) fill(be, flags[b], loraga::svd_ill_conditioned);
    }
  }
};

}  // namespace

TEST_CASE("what breaks down is repeated in one batch with noise, then alone", "[svd]") {
  auto be = test::make_backend();
  std::vector<loraga::matrix<float, test::backend>> memory;
  std::vector<loraga::matrix_view<float const, test::space>> views;
  for (double const first : {10.0, -10.0, -20.0, 10.0, -12.0}) {
    memory.push_back(test::upload<float>(be, test::host(4, 3, first)));
    views.push_back(memory.back().view());
  }
  std::vector<loraga::index_t> noisy_runs;
  int safe_runs = 0;
  auto const r = loraga::factor_batch(be, noise_taking_method{&noisy_runs, &safe_runs},
                                      loraga::view_list(views.data(), 5), 2, {}, "test");
  CHECK(noisy_runs == std::vector<loraga::index_t>{3});
  CHECK(safe_runs == 1);
  CHECK(r.flags == std::vector<int>(5, 0));
  double const values[] = {1, 10, 20, 1, 12};
  for (loraga::index_t b = 0; b < 5; ++b) CHECK(test::download(be, r[b].s)(0, 0) == values[b]);
}
#endif

TEST_CASE("an answer is looked at: made again where it is wrong, flagged where it stays wrong", "[svd]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::host(4, 3, 10.0));  // energy 1200
  loraga::const_view<float, test::space> const one = a.view();
  int safe_runs = 0;
  auto const flags_of = [&](breaking_method const& method) {
    safe_runs = 0;
    return loraga::factor_batch(be, method, loraga::view_list(&one, 1), 2, {}, "test").flags[0];
  };
  breaking_method const right{&safe_runs};
  CHECK(flags_of(right) == 0);
  CHECK(safe_runs == 0);
  auto wrong = right;
  wrong.u00 = 1.001;  // not orthonormal at first, then right
  CHECK(flags_of(wrong) == 0);
  CHECK(safe_runs == 1);
  wrong.u00 = NAN;
  CHECK(flags_of(wrong) == 0);
  CHECK(safe_runs == 1);
  wrong.safe_u00 = 1.001;
  CHECK(flags_of(wrong) == loraga::svd_inaccurate);
  wrong = right;
  wrong.s0 = 35;  // 35^2 > 1200
  CHECK(flags_of(wrong) == loraga::svd_inaccurate);
  wrong.s0 = NAN;
  CHECK(flags_of(wrong) == loraga::svd_inaccurate);
  wrong.s0 = 5;
  wrong.s1 = 6;  // ascending
  CHECK(flags_of(wrong) == loraga::svd_inaccurate);
  wrong.s1 = -1;
  CHECK(flags_of(wrong) == loraga::svd_inaccurate);
}

TEST_CASE("matrices whose squares leave double's range are flagged, not called zero or infinite", "[svd]") {
  auto be = test::make_backend();
  for (double const size : {1e-170, 1e-200, 1e160, 1e300}) {
    auto a = test::upload<double>(be, test::host(5, 4, size));
    CHECK(test::factor(be, loraga::gram{}, a, 2).flags[0] == loraga::svd_out_of_range);
  }
  for (double const size : {1e-130, 1e130}) {
    auto a = test::upload<double>(be, test::host(5, 4, size));
    auto const r = test::factor(be, loraga::gram{}, a, 2);
    CHECK(r.flags[0] == 0);
    CHECK(test::download(be, r[0].s)(0, 0) == Approx(size * std::sqrt(20.0)).epsilon(1e-12));
  }
}

TEST_CASE("singular values too large for the type are not usable", "[svd]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::host(400, 400, 2e36));
  CHECK(test::factor(be, loraga::gram{}, a, 2).flags[0] == loraga::svd_out_of_range);
  loraga::incremental_gradient<test::backend> g(be, 400, 400, {.rank = 2});
  g.add(be, a.view());
  CHECK((g.top(be, loraga::gram{}, 2).flags[0] & loraga::svd_out_of_range) != 0);
}

TEST_CASE("extreme norms are scaled by a power of two, and sigma scaled back", "[svd]") {
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::host(4, 3, 1e-25));
  loraga::matrix_view<float const, test::space> const one = a.view();
  int safe_runs = 0;
  auto const r = loraga::factor_batch(be, breaking_method{.safe_runs = &safe_runs, .s0 = 0.5},
                                      loraga::view_list(&one, 1), 1, {}, "test");
  CHECK(r.flags[0] == 0);
  double const s = test::download(be, r[0].s)(0, 0);
  CHECK(std::log2(s) == std::round(std::log2(s)));
  CHECK(s < 1e-23);
}

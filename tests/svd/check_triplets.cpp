#include <loraga/svd/check_triplets.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

namespace {

/// The flag that a batch of one gets: U 4 x 2, values, V 3 x 2; `energy` of the matrix, at a scale.
template <class T>
int flag_of(host const& u, host const& s, host const& v, double energy, double scale, caution how) {
  auto be = test::make_backend();
  scratch<test::backend> temporary(be);
  triplet_slabs<T, test::space> const t{temporary.template slab<T>(1, 4, 2), temporary.template slab<T>(1, 2, 1),
                                        temporary.template slab<T>(1, 3, 2)};
  auto const put = [&](auto slab, host const& from) {
    auto const there = test::upload<T>(be, from);
    be.copy(there.view(), slab.side_by_side());
  };
  put(t.u, u);
  put(t.s, s);
  put(t.v, v);
  auto const all = test::upload<double>(be, host(1, 1, energy));
  auto const flags = temporary.template slab<int>(1, 1, 1);
  fill(be, flags.side_by_side(), 0);
  check_triplets(be, t, all.view(), scale, how, flags);
  return read_scalar(be, flags.side_by_side());
}

}  // namespace

TEST_CASE("triplets are looked at: vectors, order, finiteness, energy", "[svd]") {
  auto const u = test::diagonal(4, 2, {1, 1}), v = test::diagonal(3, 2, {1, 1});
  auto const values = [](double a, double b) {
    host s(2, 1, a);
    s(1, 0) = b;
    return s;
  };
  auto const check = [&]<class T>(T, double slight) {
    auto const flag = [&](host const& left, host const& s, host const& right, double energy = 30, double scale = 1) {
      int const first = flag_of<T>(left, s, right, energy, scale, caution::optimistic);
      int const last = flag_of<T>(left, s, right, energy, scale, caution::safe);
      CHECK(first == (last == 0 ? 0 : svd_ill_conditioned));  // made again; after that not usable
      CHECK((last == 0 || last == svd_inaccurate));
      return last;
    };
    auto const good = values(4, 3);
    CHECK(flag(u, good, v) == 0);
    CHECK(flag(u, values(3, 3), v) == 0);
    CHECK(flag(u, values(3, 0), v) == 0);
    auto skew = u, longer = v;
    skew(0, 1) = slight;
    longer(1, 1) += slight;
    CHECK(flag(skew, good, v) == svd_inaccurate);
    CHECK(flag(u, good, longer) == svd_inaccurate);
    skew(0, 1) = NAN;
    CHECK(flag(skew, good, v) == svd_inaccurate);
    CHECK(flag(u, values(3, 4), v) == svd_inaccurate);
    CHECK(flag(u, values(3, -1), v) == svd_inaccurate);
    CHECK(flag(u, values(NAN, 1), v) == svd_inaccurate);
    CHECK(flag(u, values(INFINITY, 1), v) == svd_inaccurate);
    CHECK(flag(u, good, v, 24.9) == svd_inaccurate);  // 25 captured
    CHECK(flag(u, good, v, 25) == 0);
    CHECK(flag(u, good, v, 6.25, 2) == 0);  // values of twice the matrix
    CHECK(flag(u, good, v, 6.2, 2) == svd_inaccurate);
  };
  check(float{}, 1e-4);
  check(double{}, 1e-10);
}

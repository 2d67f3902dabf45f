#include <loraga/linalg/random.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;

namespace {

template <class F>
host filled(index_t rows, index_t cols, F fill_it) {
  auto be = test::make_backend();
  matrix<float, test::backend> m(be, rows, cols);
  fill_it(be, m.view());
  return download(be, m.view());
}

}  // namespace

TEST_CASE("random matrices are functions of stream and position", "[linalg]") {
  auto const start = [](auto& be, auto v) { fill_test_matrix(be, v, {5, 6}, 0.5); };
  host const s = filled(300, 7, start);
  for (double const x : s.data) REQUIRE(std::abs(x) <= 0.5 * std::sqrt(3.0));
  CHECK(std::abs(std::accumulate(s.data.begin(), s.data.end(), 0.0)) < 60);
  CHECK(test::norm(s) == Approx(0.5 * std::sqrt(2100.0)).epsilon(0.05));
  // the first rows and columns do not depend on how many follow
  host const t = filled(141, 3, start);
  CHECK(test::distance(t, test::rows(test::columns(s, 0, 3), 0, 141)) == 0);
  // known bits: block (row group 30, column 2) of the stream
  auto const bits = philox(5, std::uint64_t{30} << 32 | 2, 6);
  for (index_t i = 0; i < 4; ++i) {
    auto const word = static_cast<std::int32_t>(bits.word[i]);
    CHECK(s(120 + i, 2) == Approx(0.5 * std::sqrt(3.0) * std::ldexp(word, -31)).epsilon(1e-6));
  }

  host const u = filled(40, 5, [](auto& be, auto v) { fill_uniform(be, v, {5, 6}, -2, 3); });
  host const n = filled(40, 5, [](auto& be, auto v) { fill_normal(be, v, {5, 6}, 0.1); });
  for (index_t j = 0; j < 5; ++j)
    for (index_t i = 0; i < 40; ++i) {
      auto const e = static_cast<std::uint64_t>(i + 40 * j);
      REQUIRE(u(i, j) == static_cast<double>(static_cast<float>(std::fma(5.0, random_uniform({5, 6}, e), -2.0))));
      REQUIRE(n(i, j) == Approx(0.1 * random_normal({5, 6}, e)).epsilon(1e-6));
    }
}

TEST_CASE("layout does not change random matrices", "[linalg]") {
  host const by_columns = filled(20, 30, [](auto& be, auto v) { fill_normal(be, v, {1, 2}, 1); });
  auto be = test::make_backend();
  matrix<float, test::backend> m(be, 30, 20);
  fill_normal(be, m.view().transposed(), {1, 2}, 1);
  CHECK(test::distance(download(be, m.view().transposed()), by_columns) == 0);
}

#include <algorithm>
#include <loraga/backend/tridiagonal_eigen.hpp>
#include <vector>

#include "../support/catch.hpp"
#include "../support/host.hpp"

using namespace loraga;
using test::host;

namespace {

constexpr index_t laplace_rows = 50;

/// Of the matrix with 2 on the diagonal and -1 beside it: 2 - 2*cos(pi*k/(n + 1)), k = 1 ... n, ascending.
std::vector<double> laplace_values() {
  std::vector<double> values;
  for (index_t k = 1; k <= laplace_rows; ++k)
    values.push_back(2 - 2 * std::cos(std::acos(-1.0) * static_cast<double>(k) / (laplace_rows + 1)));
  return values;
}

double worst_difference(std::vector<double> found) {
  std::sort(found.begin(), found.end());
  auto const exact = laplace_values();
  double worst = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::abs(found[i] - exact[i]));
  return worst;
}

}  // namespace

TEST_CASE("values of a tridiagonal matrix are those of its closed form", "[backend]") {
  std::vector<double> d(laplace_rows, 2.0), squares(laplace_rows, 1.0);
  squares.back() = 0;
  REQUIRE(eigen::tridiagonal_values(laplace_rows, d.data(), squares.data(), 1e-30));
  CHECK(worst_difference(d) < 1e-13);
}

TEST_CASE("QL sweeps find values and vectors of a tridiagonal matrix", "[backend]") {
  std::vector<double> d(laplace_rows, 2.0), beside(laplace_rows, -1.0);
  host z(laplace_rows, laplace_rows);
  for (index_t i = 0; i < laplace_rows; ++i) z(i, i) = 1;
  REQUIRE(eigen::tridiagonal_vectors_safely(laplace_rows, d.data(), beside.data(), 1e-15,
                                            col_major(z.data.data(), laplace_rows, laplace_rows)));
  CHECK(worst_difference(d) < 1e-13);
  for (index_t j = 0; j < laplace_rows; ++j)
    for (index_t i = 0; i < laplace_rows; ++i) {
      double const above = i > 0 ? z(i - 1, j) : 0, below = i + 1 < laplace_rows ? z(i + 1, j) : 0;
      CHECK(std::abs(2 * z(i, j) - above - below - d[static_cast<std::size_t>(j)] * z(i, j)) < 1e-13);
    }
}

TEST_CASE("inverse iteration finds the vectors of given values", "[backend]") {
  using iteration = eigen::inverse_iteration<double>;
  std::vector<double> const d(laplace_rows, 2.0), beside(laplace_rows, -1.0), exact = laplace_values();
  std::vector<double> random, values(exact.end() - iteration::lanes, exact.end()),
      work(static_cast<std::size_t>(iteration::elements(laplace_rows)));
  for (index_t i = 0; i < laplace_rows + iteration::lanes; ++i)
    random.push_back(random_uniform({}, static_cast<std::uint64_t>(i)) - 0.5);
  host v(laplace_rows, iteration::lanes);
  iteration(d.data(), beside.data(), 1e-15, work.data())
      .solve(laplace_rows, values.data(), random.data(), iteration::lanes, v.data.data(), laplace_rows);
  for (index_t j = 0; j < iteration::lanes; ++j) {
    double length = 0, worst = 0;
    for (index_t i = 0; i < laplace_rows; ++i) {
      double const above = i > 0 ? v(i - 1, j) : 0, below = i + 1 < laplace_rows ? v(i + 1, j) : 0;
      length += v(i, j) * v(i, j);
      worst = std::max(worst, std::abs((2 - values[static_cast<std::size_t>(j)]) * v(i, j) - above - below));
    }
    CHECK(std::abs(length - 1) < 1e-13);
    CHECK(worst < 1e-13);
  }
}

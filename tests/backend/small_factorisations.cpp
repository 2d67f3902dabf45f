#include <loraga/backend/small_factorisations.hpp>

#include "../support/catch.hpp"
#include "../support/host.hpp"

using namespace loraga;
using test::host;

namespace {

/// Columns further apart than they are long, as a batch's may be.
struct padded {
  host memory;
  matrix_view<double, host_space> view;
  explicit padded(host const& m)
      : memory(m.rows + 3, m.cols, 7), view(memory.data.data(), m.rows, m.cols, 1, m.rows + 3) {
    for (index_t j = 0; j < m.cols; ++j)
      for (index_t i = 0; i < m.rows; ++i) view(i, j) = m(i, j);
  }
  host get() const {
    return test::generate(view.rows, view.cols, [&](index_t i, index_t j) { return view(i, j); });
  }
};

}  // namespace

TEST_CASE("the inverse of a Cholesky factor, in place", "[backend]") {
  for (index_t const n : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 70}) {
    host const y = test::random(2 * n, n, 5), s = test::transpose(y) * y;
    padded m(s);
    REQUIRE(eigen::cholesky_inverse(m.view, 1e-14, 0));
    host const inverse = m.get();
    // R^-T * S * R^-1 = I, and nothing below the diagonal
    CHECK(test::distance(test::transpose(inverse) * s * inverse, test::identity(n)) < 1e-10);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = j + 1; i < n; ++i) CHECK(inverse(i, j) == 0);
    CHECK(m.memory(n, 0) == 7);  // between the columns
  }
}

TEST_CASE("pivots at their limits, and what is not a number, are refused", "[backend]") {
  host s = test::identity(5);
  s(3, 3) = 1e-3;
  CHECK(eigen::cholesky_inverse(padded(s).view, 1e-15, 9e-4));
  CHECK_FALSE(eigen::cholesky_inverse(padded(s).view, 1e-15, 1e-3));
  s(3, 3) = 0;
  CHECK_FALSE(eigen::cholesky_inverse(padded(s).view, 0, 0));
  s(3, 3) = NAN;
  CHECK_FALSE(eigen::cholesky_inverse(padded(s).view, 0, 0));
  host const twice = test::generate(6, 6, [](index_t, index_t) { return 1.0; });  // rank 1
  CHECK_FALSE(eigen::cholesky_inverse(padded(twice).view, 1e-14, 0));
}

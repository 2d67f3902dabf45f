#include <loraga/backend/eigen_kernels.hpp>

#include "../support/catch.hpp"
#include "../support/host.hpp"

using namespace loraga;
using test::host;

namespace {

matrix_view<double, host_space> view(host& m) { return col_major(m.data.data(), m.rows, m.cols); }

}  // namespace

TEST_CASE("multiply_add adds a product, and packs into memory it keeps", "[backend]") {
  eigen::packing memory;
  host a = test::random(50, 40, 1), b = test::random(40, 30, 2), c = test::random(50, 30, 3);
  host const expected = c + 2.0 * (a * b);
  auto* const before = memory.at_least(1 << 20);
  eigen::multiply_add<double>(2.0, view(a), view(b), view(c), memory);
  CHECK(test::distance(c, expected) < 1e-12);
  CHECK(memory.at_least(1) == before);
}

TEST_CASE("reflectors applied in blocks equal the product of reflections", "[backend]") {
  for (index_t const n : {2, 5, 40, 70}) {
    host const y = test::random(n, n, 4), s = y + test::transpose(y);
    Eigen::MatrixXd m(n, n);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) m(i, j) = s(i, j);
    Eigen::Tridiagonalization<Eigen::MatrixXd> const t(m);
    Eigen::MatrixXd z = Eigen::MatrixXd::Identity(n, n);
    eigen::packing memory;
    eigen::apply_reflectors<double>(t.packedMatrix(), t.householderCoefficients(), z, memory);
    Eigen::MatrixXd const q = t.matrixQ();
    CHECK((z - q).cwiseAbs().maxCoeff() < 1e-13);
  }
}

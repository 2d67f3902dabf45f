#include <loraga/backend/tridiagonal.hpp>
#include <vector>

#include "../support/catch.hpp"
#include "../support/host.hpp"

using namespace loraga;
using test::host;

TEST_CASE("S = Q*T*QT, with Q orthogonal, below, at and above a panel's width", "[backend]") {
  for (index_t const n : {1, 2, 3, 31, 32, 33, 70, 129}) {
    INFO(n);
    host const y = test::random(n, n, 4), s = y + test::transpose(y);
    host reduced = s, q(n, n);
    auto const size = static_cast<std::size_t>(n);
    std::vector<double> diagonal(size), beside(size), factors(size);
    eigen::packing memory, work;
    auto* const panels = reinterpret_cast<double*>(work.at_least(eigen::tridiagonal_form<double>::bytes(n)));
    eigen::tridiagonal_form<double> const form(col_major(reduced.data.data(), n, n), diagonal.data(), beside.data(),
                                               factors.data(), 0, panels, memory);
    for (index_t i = 0; i < n; ++i) q(i, i) = 1;
    form.apply(col_major(q.data.data(), n, n), memory);
    host t(n, n), one(n, n);
    for (index_t i = 0; i < n; ++i) {
      one(i, i) = 1;
      t(i, i) = diagonal[static_cast<std::size_t>(i)];
      if (i + 1 < n) t(i + 1, i) = t(i, i + 1) = beside[static_cast<std::size_t>(i)];
    }
    CHECK(test::distance(test::transpose(q) * q, one) < 1e-13);
    CHECK(test::distance(q * t * test::transpose(q), s) < 1e-13);
  }
}

#include <loraga/adapter/orthonormality.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("the orthonormality term and its derivative", "[adapter]") {
  auto be = test::make_backend();
  host p = test::random(7, 3, 1);
  auto const term = [](host const& x) { return 0.3 * test::norm(test::transpose(x) * x - test::identity(x.cols)); };
  auto dp = upload<double>(be, p), gradient = upload<double>(be, host(7, 3, 2));
  auto value = upload<double>(be, host(1, 1, 5));
  add_orthonormality_term(be, dp.view(), gradient.view(), 0.3, value.view());
  CHECK(read_scalar(be, value.view()) == Approx(5 + term(p)).epsilon(1e-13));
  host const g = download(be, gradient.view());
  for (index_t j = 0; j < 3; ++j)
    for (index_t i = 0; i < 7; ++i) {
      host up = p, down = p;
      up(i, j) += 1e-5;
      down(i, j) -= 1e-5;
      CHECK(std::abs((term(up) - term(down)) / 2e-5 + 2 - g(i, j)) < 1e-8);
    }
}

TEST_CASE("an orthonormal factor is left alone", "[adapter]") {
  auto be = test::make_backend();
  auto p = upload<float>(be, test::identity(4)), gradient = upload<float>(be, host(4, 4));
  auto value = upload<double>(be, host(1, 1));
  add_orthonormality_term(be, p.view(), gradient.view(), 1, value.view());
  CHECK(read_scalar(be, value.view()) == 0);
  CHECK(test::largest(download(be, gradient.view())) == 0);
}

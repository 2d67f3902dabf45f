#include <loraga/cpu.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;
using test::upload;

TEST_CASE("results do not depend on the number of threads", "[backend]") {
  host const a = test::random(1300, 700, 1), b = test::random(700, 900, 2);
  std::vector<std::vector<float>> products;
  std::vector<std::vector<double>> grams, norms;
  for (int const threads : {1, 2, 5}) {
    cpu be(threads);
    auto da = upload<float>(be, a), db = upload<float>(be, b);
    matrix<float, cpu> c(be, 1300, 900);
    be.gemm(1.0, da.view(), db.view(), 0.0, c.view());
    products.push_back(read_all(be, c.view()));
    slab<double, cpu> s(be, 1, 700, 700);
    be.gram_batched(slab_view(da.view()), s.view());
    grams.push_back(read_all(be, s.view()[0]));
    matrix<double, cpu> n(be, 1, 1);
    sum_of_squares(be, da.view(), n.view());
    norms.push_back(read_all(be, n.view()));
  }
  CHECK(products[0] == products[1]);
  CHECK(products[0] == products[2]);
  CHECK(grams[0] == grams[1]);
  CHECK(grams[0] == grams[2]);
  CHECK(norms[0] == norms[1]);
  CHECK(norms[0] == norms[2]);
}

TEST_CASE("a CPU needs a thread", "[backend]") { CHECK_THROWS_AS(cpu(0), value_error); }

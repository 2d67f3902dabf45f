#include "structured.hpp"

#include <loraga/gradient/incremental.hpp>
#include <loraga/svd/automatic.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "judge.hpp"

// A part of tests/properties, on any backend: see there for the whole.

using namespace loraga;

namespace {

/// The matrix as T holds it, times 2^-exponent, and its singular values.
struct scaled_matrix {
  test::host a;
  int exponent;
  std::vector<double> sigma;
  explicit scaled_matrix(test::host stored) : a(std::move(stored)), exponent(std::ilogb(test::largest(a))) {
    for (double& x : a.data) x = std::ldexp(x, -exponent);
    sigma = test::jacobi_svd(a).s;
  }
};

template <class T>
void check_structured(std::uint64_t first, std::uint64_t count, index_t largest) {
  auto be = test::make_backend();
  for (std::uint64_t number = first; number < first + count; ++number) {
    auto const m = test::structured(number, largest);
    auto a = test::upload<T>(be, m.a);
    auto const given = test::download(be, a.view());
    if (test::largest(given) == 0) continue;
    scaled_matrix const known(given);
    auto const check = [&](std::string const& method, double loss, auto const& result, bool left_exact) {
      auto got = test::download_triplets(be, result);
      for (double& s : got.s) s = std::ldexp(s, -known.exponent);
      test::judgement j;
      INFO(method << ": " << m.family << " number " << number << ", " << shape_text(m.a.rows, m.a.cols) << " k "
                  << m.k);
      CHECK(result.flags[0] == svd_usable);
      CHECK(test::faults<compute_t<T>>(known.a, known.sigma, got, loss, left_exact, j) == "");
      double captured = 0;
      for (double const s : got.s) captured += s * s;
      if (!std::isnan(result.energy[0]))
        CHECK(captured <= (1 + 1e-6) * std::ldexp(result.energy[0], -2 * known.exponent));
    };
    auto const svd = [&](std::string const& name, double loss, auto const& method) {
      check(name, loss, test::factor(be, method, a, m.k), m.a.rows <= m.a.cols);
    };
    svd("gram", 1e-5, gram{});
    svd("automatic", test::promised_loss(known.sigma, false), automatic_svd{.seed = number});
    svd("subspace", 1, subspace{.seed = number});
    svd("block_krylov", 1, block_krylov{.block = 5, .depth = (m.k + 4) / 5 + 2, .seed = number});
    if constexpr (!is_16bit<T>) {
      incremental_gradient<test::backend, T> estimate(be, m.a.rows, m.a.cols, {.rank = m.k, .seed = number});
      estimate.add(be, a.view());
      check("incremental", 1, estimate.top(be, gram{}, m.k), true);
    }
  }
}

// The double of the CUDA libraries is slow: there this is about the text, here about the numbers.
constexpr std::uint64_t count = test::batches_keep_bits ? 480 : 48;

}  // namespace

TEMPLATE_TEST_CASE("structured matrices of all families: every answer is right", "[svd]", float, double) {
  check_structured<TestType>(0, count, 90);
}
TEST_CASE("structured matrices in 16 bit", "[svd]") { check_structured<bf16>(100000, count / 4, 90); }

#include <loraga/adapter/folded_lora.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/lora_ga.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

/// out(:, i) = (1 + last)*e_i*b(:, i)
template <class Bv, class E, class O>
struct fold_and_grow {
  Bv b;
  E e;
  O out;
  LORAGA_HD void operator()(index_t j, index_t i) const { out(j, i) = (1 + e(b.cols, 0)) * e(i, 0) * b(j, i); }
};

/// r lengths between B and A and a number more, which makes the whole larger.
template <class T>
class growing : public folded_lora<growing<T>, T, test::backend> {
  using base = folded_lora<growing, T, test::backend>;
  friend base;

 public:
  growing(test::backend& be, index_t out, index_t in, index_t rank, lora_options options = {})
      : base(be, out, in, rank, constant_scaling{0.5}, options, rank + 1, true) {}
  test::view<T> numbers() { return this->rest_of(this->values_.view()); }

 private:
  static test::view<T> diagonal(test::view<T> numbers, index_t rank) { return numbers.row_range(0, rank); }
  using factor = test::view<T const>;
  static factor gradient_side(factor, factor folded) { return folded; }
  template <class Bv, class E, class O>
  static void fold(test::backend& be, Bv b, E e, O to) {
    be.for_each(b.rows, b.cols, fold_and_grow<Bv, E, O>{b, e, to});
  }
};

}  // namespace

TEST_CASE("a start is split into lengths and unit factors; what else lies between becomes 0", "[adapter]") {
  test::fixture<double> f(12, 9, 3);
  auto& be = f.be;
  growing<double> ad(be, 12, 9, 3, {.seed = 5}), other(be, 12, 9, 3, {.seed = 6});
  CHECK(test::largest(download(be, ad.numbers())) == 0);
  CHECK(test::distance(download(be, ad.a()), download(be, other.a())) > 0.01);
  test::upload_to<double>(be, host(4, 1, 7), ad.numbers());
  host const a0 = test::random(3, 9, 1), b0 = test::random(12, 3, 2);
  auto const a = upload<double>(be, a0), b = upload<double>(be, b0);
  ad.start(be, a.view(), b.view());
  host const numbers = download(be, ad.numbers());
  for (index_t i = 0; i < 3; ++i) {
    double aa = 0, bb = 0;
    for (index_t j = 0; j < 9; ++j) aa += a0(i, j) * a0(i, j);
    for (index_t j = 0; j < 12; ++j) bb += b0(j, i) * b0(j, i);
    CHECK(numbers(i, 0) == Approx(std::sqrt(aa * bb)).epsilon(1e-12));
  }
  CHECK(numbers(3, 0) == 0);
  CHECK(test::distance(download(be, ad.folded_b(be).view()) * download(be, ad.a()), b0 * a0) < 1e-12);
  // a factor that is 0: length 0, random values of the seed
  initialise(be, ad, kaiming_init{});
  CHECK(test::largest(download(be, ad.numbers())) == 0);
  CHECK(test::norm(download(be, ad.b())) / 6 == Approx(0.02).epsilon(0.5));
  CHECK(test::norm(download(be, ad.a())) == Approx(std::sqrt(3.)).epsilon(1e-12));
}

TEST_CASE("passes and merges go through the folded B, less the frozen start", "[adapter]") {
  test::fixture<double> f(12, 9, 3);
  auto& be = f.be;
  host const x = test::random(9, 5, 4);
  auto dx = upload<double>(be, x);
  for (bool const pair : {false, true}) {
    growing<double> ad(be, 12, 9, 3);
    if (pair)
      ad.freeze_start(be, upload<double>(be, test::random(3, 9, 1)).view(),
                      upload<double>(be, test::random(12, 3, 2)).view());
    ad.start(be, upload<double>(be, test::random(3, 9, 1)).view(), upload<double>(be, test::random(12, 3, 2)).view());
    typename growing<double>::tape t;
    host const product = test::random(12, 3, 2) * test::random(3, 9, 1);
    CHECK(test::distance(test::run_forward(be, ad, f.weight.view(), dx.view(), t),
                         (f.w + (pair ? 0.0 : 0.5) * product) * x) < 1e-12);
    fill(be, ad.numbers().row_range(3, 1), 2);  // three times the product
    host const expected = f.w + (pair ? 1.0 : 1.5) * product;
    CHECK(test::distance(test::run_forward(be, ad, f.weight.view(), dx.view(), t), expected * x) < 1e-12);
    auto copy = upload<double>(be, f.w);
    ad.add_change(be, copy.view(), 2);
    CHECK(test::distance(download(be, copy.view()), 2.0 * expected - f.w) < 1e-12);
    ad.merge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), expected) < 1e-12);
    CHECK_THROWS_AS(ad.merge(be, f.weight.view()), state_error);
    fill(be, ad.numbers(), 9);
    ad.unmerge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-12);
    CHECK_THROWS_AS(ad.unmerge(be, f.weight.view()), state_error);
  }
}

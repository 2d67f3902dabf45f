#include <loraga/adapter/row_norms.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

void check_norms(host const& v, host const& n, double tolerance) {
  for (index_t j = 0; j < v.rows; ++j) {
    double sum = 0;
    for (index_t k = 0; k < v.cols; ++k) sum += v(j, k) * v(j, k);
    CAPTURE(j);
    CHECK(std::abs(n(j, 0) - std::sqrt(sum)) <= tolerance * std::sqrt(sum));
  }
}

/// The norms in type N, from matrices of element type T, against rows formed one by one.
template <class T, class N = double>
void compare(host const& w, host const& b, host const& a, host const& b0, host const& a0, double scale,
             double tolerance) {
  auto be = test::make_backend();
  auto dw = upload<T>(be, w), db = upload<T>(be, b), da = upload<T>(be, a);
  bool const pair = a0.rows > 0;
  auto db0 = upload<T>(be, b0), da0 = upload<T>(be, a0);
  matrix<double, test::backend> squares(be, w.rows, 1);
  matrix<N, test::backend> norm(be, w.rows, 1);
  using view = matrix_view<T const, test::space>;
  row_squares(be, dw.view(), squares.view());
  row_norms(be, dw.view(), squares.view(), scale, view(da.view()), view(db.view()), pair ? view(da0.view()) : view{},
            pair ? view(db0.view()) : view{}, norm.view());
  host v = download(be, dw.view()) + scale * (download(be, db.view()) * download(be, da.view()));
  if (pair) v = v - scale * (download(be, db0.view()) * download(be, da0.view()));
  check_norms(v, download(be, norm.view()), tolerance);
}

/// The same by one pair of factors, and g/norm.
template <class T, class N = double>
void compare_rescaling(host const& w, host const& b, host const& a, double scale, double tolerance) {
  auto be = test::make_backend();
  auto dw = upload<T>(be, w), db = upload<T>(be, b), da = upload<T>(be, a);
  host const g = test::random(w.rows, 1, 9);
  auto dg = upload<N>(be, g);
  matrix<double, test::backend> squares(be, w.rows, 1);
  matrix<N, test::backend> norm(be, w.rows, 1), ratio(be, w.rows, 1);
  row_squares(be, dw.view(), squares.view());
  rescaling_of(be, dw.view(), read_only(squares.view()), scale, db.view(), da.view(), norm.view(), read_only(dg.view()),
               ratio.view());
  host const n = download(be, norm.view()), r = download(be, ratio.view());
  check_norms(download(be, dw.view()) + scale * (download(be, db.view()) * download(be, da.view())), n, tolerance);
  for (index_t j = 0; j < w.rows; ++j) CHECK(r(j, 0) == Approx(n(j, 0) > 0 ? g(j, 0) / n(j, 0) : 1));
  fill(be, norm.view(), 0);
  rescaling_of(be, dw.view(), read_only(squares.view()), scale, db.view(), da.view(), norm.view());
  CHECK(test::distance(download(be, norm.view()), n) == 0);
}

}  // namespace

TEST_CASE("row norms agree with the naive form", "[adapter]") {
  host const w = test::random(300, 20, 1, 0.2), a = test::random(3, 20, 2), b = test::random(300, 3, 3);
  host const a0 = test::random(2, 20, 4), b0 = test::random(300, 2, 5);
  compare<double>(w, b, a, {}, {}, 0.7, 1e-12);
  compare<double>(w, b, a, b0, a0, 0.7, 1e-12);
  compare<float>(w, b, a, b0, a0, 0.7, 1e-12);
  compare<bf16>(w, b, a, b0, a0, 0.7, 1e-12);
}

TEST_CASE("row norms survive cancellation", "[adapter]") {
  // s*B*A = -(1 - e)*W with W of rank 3: what is left is e*W
  host const a = test::random(3, 40, 2), b = test::random(12, 3, 3), w = b * a;
  for (double const e : {1e-1, 1e-3, 1e-6}) compare<double>(w, (-1 + e) * b, a, {}, {}, 1, 1e-8);
  compare<double>(host(5, 8), host(5, 1), test::random(1, 8, 1), {}, {}, 1, 0);  // nothing at all: exactly 0
}

TEST_CASE("row norms in float are as good as float", "[adapter]") {
  host const w = test::random(300, 200, 1, 0.2), a = test::random(3, 200, 2), b = test::random(300, 3, 3);
  host const a0 = test::random(2, 200, 4), b0 = test::random(300, 2, 5);
  compare<float, float>(w, b, a, {}, {}, 0.7, 3e-7);
  compare<float, float>(w, b, a, b0, a0, 0.7, 3e-7);
  compare<bf16, float>(w, b, a, b0, a0, 0.7, 3e-7);
  // what cancels is formed: rows of W lie in A's span, and e*W is left of them
  host const inside = b * a;
  for (double const e : {0.5, 1e-1, 1e-2, 1e-3}) compare<float, float>(inside, (-1 + e) * b, a, {}, {}, 1, 1e-5);
}

TEST_CASE("norms and ratios by one pair of factors agree with the naive form, and survive cancellation", "[adapter]") {
  host const w = test::random(300, 200, 1, 0.2), a = test::random(3, 200, 2), b = test::random(300, 3, 3);
  compare_rescaling<double>(w, b, a, 0.7, 1e-12);
  compare_rescaling<float, float>(w, b, a, 0.7, 3e-7);
  compare_rescaling<bf16, float>(w, b, a, 0.7, 3e-7);
  host const inside = b * a;
  for (double const e : {1e-1, 1e-3, 1e-6}) compare_rescaling<double>(inside, (-1 + e) * b, a, 1, 1e-8);
  for (double const e : {0.5, 1e-1, 1e-2, 1e-3}) compare_rescaling<float, float>(inside, (-1 + e) * b, a, 1, 1e-5);
  compare_rescaling<double>(host(5, 8), host(5, 1), test::random(1, 8, 1), 1,
                            0);  // nothing at all: 0, and a ratio of 1
}

TEST_CASE("columns fold into their sum", "[adapter]") {
  auto be = test::make_backend();
  for (index_t const cols : {1, 2, 3, 8, 13, 100}) {
    host const x = test::random(6, cols, 1);
    auto dx = upload<double>(be, x);
    fold_columns(be, dx.view());
    host const sums = test::generate(6, 1, [&](index_t i, index_t) {
      double total = 0;
      for (index_t j = 0; j < cols; ++j) total += x(i, j);
      return total;
    });
    CAPTURE(cols);
    CHECK(test::distance(download(be, dx.view().columns(0, 1)), sums) < 1e-14);
  }
}

#pragma once
#include "backend.hpp"
#include "catch.hpp"

namespace test {

/// Base product and adapter together, as a training loop runs them: Y = W*X + adapter(X).
template <class A, class V>
host run_forward(backend& be, A& adapter, V w, V x, typename A::tape& tape) {
  loraga::matrix<double, backend> y(be, w.rows, x.cols);
  be.gemm(1.0, w, x, 0.0, y.view());
  adapter.forward(be, w, x, y.view(), tape);
  return download(be, y.view());
}

/// Any adapter's backward against finite differences of L = <R, Y>, entry by entry, for every parameter and for X.
/// The adapter's current values are used, so call it again after they have moved. Adapters in double only.
/// `rewind` is called before each evaluation: it may put dropout's counter back, so that all use one mask.
template <class A, class Rewind>
void check_gradients(backend& be, A& adapter, host const& w, host x, Rewind const& rewind, double tolerance = 1e-7) {
  auto dw = upload<double>(be, w);
  host const r = random(w.rows, x.cols, 77);
  auto dr = upload<double>(be, r);
  typename A::tape tape;
  auto const loss = [&](host const& input) {
    rewind();
    auto dx = upload<double>(be, input);
    typename A::tape t;
    return inner(r, run_forward(be, adapter, dw.view(), dx.view(), t));
  };
  rewind();
  auto dx = upload<double>(be, x);
  adapter.zero_gradient(be);
  run_forward(be, adapter, dw.view(), dx.view(), tape);
  host const start = random(x.rows, x.cols, 78);  // dX = beta*dX + ...
  auto grad_x = upload<double>(be, start);
  auto const base_dy = adapter.backward(be, dw.view(), dx.view(), dr.view(), tape, 0.5, grad_x.view());
  be.gemm(1.0, dw.view().transposed(), base_dy, 1.0, grad_x.view());

  double const h = 1e-5;
  host const gx = download(be, grad_x.view());
  for (index_t j = 0; j < x.cols; ++j)
    for (index_t i = 0; i < x.rows; ++i) {
      double const keep = x(i, j);
      x(i, j) = keep + h;
      double const up = loss(x);
      x(i, j) = keep - h;
      double const down = loss(x);
      x(i, j) = keep;
      if (!(std::abs((up - down) / (2 * h) + 0.5 * start(i, j) - gx(i, j)) <= tolerance * (1 + std::abs(gx(i, j)))))
        FAIL("dX(" << i << ", " << j << ") is " << gx(i, j) << ", differences say "
                   << (up - down) / (2 * h) + 0.5 * start(i, j));
    }
  for (auto const& p : adapter.parameters()) {
    host const gradient = download(be, p.gradient);
    host value = download(be, p.value);
    for (index_t j = 0; j < value.cols; ++j)
      for (index_t i = 0; i < value.rows; ++i) {
        double const keep = value(i, j);
        auto const at = [&](double v) {
          value(i, j) = v;
          upload_to<double>(be, value, p.value);
          return loss(x);
        };
        double const difference = (at(keep + h) - at(keep - h)) / (2 * h);
        at(keep);
        if (!(std::abs(difference - gradient(i, j)) <= tolerance * (1 + std::abs(difference))))
          FAIL(p.name << " gradient (" << i << ", " << j << ") is " << gradient(i, j) << ", differences say "
                      << difference);
      }
  }
  SUCCEED();
}

}  // namespace test

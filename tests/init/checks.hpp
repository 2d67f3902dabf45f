#pragma once
#include "../support/backend.hpp"
#include "../support/catch.hpp"

namespace test {

/// A layer with a full-rank weight and a full-rank gradient already accumulated.
template <class T = float>
struct fixture {
  backend be = make_backend();
  index_t out, in, rank;
  host w, g;
  loraga::matrix<T, backend> weight;
  loraga::dense_gradient<backend> gradient;

  fixture(index_t o, index_t i, index_t r, std::vector<double> const& spectrum = {})
      : out(o),
        in(i),
        rank(r),
        w(random(o, i, 41, 0.2)),
        g(spectrum.empty() ? with_spectrum(o, i, geometric(std::min(o, i), 0.8), 42)
                           : with_spectrum(o, i, spectrum, 42)),
        weight(upload<T>(be, w)),
        gradient(be, o, i) {
    gradient.add(be, upload<float>(be, g).view());
  }
};

}  // namespace test

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

/// How far a start moves a layer's output at step 0, relative to that output. start(backend, adapter, W) initialises.
template <class T = float, class Start>
double change_at_start(index_t out, index_t in, index_t rank, Start const& start) {
  auto be = make_backend();
  auto w = upload<T>(be, random(out, in, 51, 0.2)), x = upload<T>(be, random(in, 30, 52));
  loraga::matrix<T, backend> y(be, out, 30), z(be, out, 30);
  be.gemm(1.0, w.view(), x.view(), 0.0, y.view());
  loraga::lora<T, backend> ad(be, out, in, rank, loraga::rank_stable_scaling{});
  start(be, ad, w.view());
  be.gemm(1.0, w.view(), x.view(), 0.0, z.view());
  typename loraga::lora<T, backend>::tape tape;
  ad.forward(be, w.view(), x.view(), z.view(), tape);
  host const before = download(be, y.view());
  return norm(download(be, z.view()) - before) / norm(before);
}
/// An initialiser that takes W and an anchor (and what else it needs, in between) starts without a change, anchored
/// either way: to rounding in place, exactly with a frozen pair.
template <class Init, class... More>
void check_anchored_start(index_t out, index_t in, index_t rank, Init const& init, More const&... more) {
  CHECK(change_at_start(out, in, rank, [&](auto& be, auto& ad, auto w) {
          loraga::initialise(be, ad, init, w, more..., loraga::in_place_anchor{});
        }) < 2e-6);
  CHECK(change_at_start<loraga::bf16>(out, in, rank, [&](auto& be, auto& ad, auto w) {
          loraga::initialise(be, ad, init, w, more..., loraga::frozen_pair_anchor{});
        }) == 0);
}

}  // namespace test

// Runs the README's example on a small regression: it must learn what its layer did not know.
#include "readme.cpp"

int main() {
  index_t const out = 64, in = 48, tokens = 256;
  cpu be;
  auto const size = [](index_t n) { return static_cast<std::size_t>(n); };
  std::vector<float> w(size(out * in)), x(size(tokens * in)), dx(x.size()), y(size(tokens * out)), target(y.size()),
      dy(y.size());
  auto const W = row_major(w.data(), out, in);
  auto const X = activations(x.data(), tokens, in);
  auto const Y = activations(y.data(), tokens, out), T = activations(target.data(), tokens, out);
  auto const dY = activations(dy.data(), tokens, out);
  fill_normal(be, W, {1, 1}, 0.1);
  fill_normal(be, X, {1, 2}, 1);
  fill_normal(be, T, {1, 3}, 1);
  be.gemm(1, W, X, 0, Y);
  double const first = cosine(be, Y, T);
  fine_tune(be, w.data(), x.data(), y.data(), dx.data(), dy.data(), out, in, tokens,
            [&] {  // dY of |Y - T|^2/(2*tokens)
              convert(be, Y, dY);
              axpby(be, -1.0 / tokens, T, 1.0 / tokens, dY);
            });
  be.gemm(1, W, X, 0, Y);  // the merged weight alone
  return cosine(be, Y, T) > first + 0.1 ? 0 : 1;
}

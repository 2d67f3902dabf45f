// What an SVD is made of: eigenproblems, passes over matrices, Gram matrices.
#include "run.cuh"
#include "spectrum.cuh"

namespace perf {

namespace {

std::string name_of(std::initializer_list<std::pair<char const*, index_t>> numbers) {
  std::string text;
  for (auto const& [key, value] : numbers)
    text += (text.empty() ? "" : " ") + std::string(key) + "=" + std::to_string(value);
  return text;
}

struct scale_columns {
  loraga::matrix_view<double, loraga::device_space> m;
  loraga::matrix_view<double const, loraga::device_space> by;
  LORAGA_HD void operator()(index_t i, index_t j) const { m(i, j) *= by(j, 0); }
};

}  // namespace

void eigenproblems(backend& be, settings const& how) {
  for (index_t const whole : {64, 192, 320, 640}) {
    index_t const n = how.side(whole), count = how.number(128);
    loraga::slab<double, backend> source(be, count, n, n), s(be, count, n, n), values(be, count, n, 1);
    loraga::slab<int, backend> flags(be, count, 1, 1);
    loraga::slab<float, backend> y(be, count, 2 * n, n);
    loraga::fill_normal(be, y.view().side_by_side(), {3, static_cast<std::uint64_t>(n)}, 1);
    be.gram_batched(y.view(), source.view());
    loraga::fill(be, flags.view().side_by_side(), 0);
    auto const solve = [&] {
      be.copy(source.view().side_by_side(), s.view().side_by_side());
      be.eigh_batched(s.view(), n, values.view(), flags.view());
    };
    auto const t = time_of(be, how, solve);
    auto const copying = time_of(be, how, [&] { be.copy(source.view().side_by_side(), s.view().side_by_side()); });
    solve();
    double worst = 0;  // |S*V - V*L| / |S|
    loraga::matrix<double, backend> left(be, n, n), right(be, n, n);
    for (index_t const b : {index_t{0}, count - 1}) {
      be.gemm(1.0, source.view()[b], s.view()[b], 0.0, left.view());
      be.copy(s.view()[b], right.view());
      be.for_each(n, n, scale_columns{right.view(), values.view()[b]});
      loraga::axpby(be, -1.0, right.view(), 1.0, left.view());
      worst = std::max(worst, std::sqrt(energy_of(be, left.view()) / energy_of(be, source.view()[b])));
    }
    double const launches = launches_of(be, solve);
    result r("eigenproblems", name_of({{"n", whole}, {"count", 128}}));
    with_times(r, t).with("copy_seconds", copying.median).with("error", worst).with("launches", launches);
    r.with("memory", memory_peak_of(be, solve));
  }
}

void passes(backend& be, settings const& how) {
  index_t const n = how.side(4096), count = how.number(8);
  auto const base = cosine_matrix(be, n, n);
  loraga::slab<float, backend> g(be, count, n, n);
  for (index_t b = 0; b < count; ++b) with_random_signs(be, base, g.view()[b], static_cast<std::uint64_t>(b));
  for (index_t const columns : {16, 64, 128, 320}) {
    index_t const width = how.rank(columns);
    loraga::slab<float, backend> q(be, count, n, width), y(be, count, n, width), exact(be, count, n, width);
    loraga::fill_normal(be, q.view().side_by_side(), {4, 1}, 1);
    be.gemm_batched(1.0, g.view(), q.view(), 0.0, exact.view());
    for (bool const transposed : {false, true})
      for (auto const rounding : {loraga::float_products::fp32, loraga::float_products::tf32}) {
        bool const tf32 = rounding == loraga::float_products::tf32;
        auto const pass = [&] {
          if (transposed) be.gemm_batched(1.0, g.view().transposed(), q.view(), 0.0, y.view());
          else be.gemm_batched(1.0, g.view(), q.view(), 0.0, y.view());
        };
        be.products(rounding);
        auto const t = time_of(be, how, pass);
        be.products(loraga::float_products::fp32);
        result r("passes", std::string(tf32 ? "tf32 " : "fp32 ") + (transposed ? "GT*Q " : "G*Q ") +
                               name_of({{"width", columns}, {"count", 8}}));
        auto const elements = static_cast<double>(count) * static_cast<double>(n) * static_cast<double>(n);
        with_times(r, t).with("bytes", 4 * elements).with("flops", 2 * elements * static_cast<double>(width));
        if (!transposed) r.with("difference", relative_error(be, y.view().side_by_side(), exact.view().side_by_side()));
      }
  }
}

void grams(backend& be, settings const& how) {
  for (index_t const whole : {64, 192, 640}) {
    index_t const l = how.rank(whole), n = how.side(4096), count = how.number(128);
    loraga::slab<float, backend> y(be, count, n, l);
    loraga::slab<double, backend> s(be, count, l, l);
    loraga::fill_normal(be, y.view().side_by_side(), {5, 1}, 1);
    auto const work = [&] { be.gram_batched(y.view(), s.view()); };
    if (how.profiled) {
      profile(be, work);
      continue;
    }
    auto const t = time_of(be, how, work);
    loraga::matrix<double, backend> wide(be, n, l), exact(be, l, l);
    loraga::convert(be, y.view()[count - 1], wide.view());
    be.gemm(1.0, wide.view().transposed(), wide.view(), 0.0, exact.view());
    result r("grams", name_of({{"rows", 4096}, {"columns", whole}, {"count", 128}}));
    auto const elements = static_cast<double>(count) * static_cast<double>(n) * static_cast<double>(l);
    with_times(r, t).with("bytes", 4 * elements).with("flops", 2 * elements * static_cast<double>(l));
    r.with("error", relative_error(be, s.view()[count - 1], exact.view()));
    r.with("launches", launches_of(be, work)).with("memory", memory_peak_of(be, work));
  }
}

}  // namespace perf

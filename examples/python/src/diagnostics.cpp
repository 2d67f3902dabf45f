#include <nanobind/stl/vector.h>

#include <loraga/diagnostics/alignment.hpp>
#include <loraga/diagnostics/spectrum.hpp>

#include "arrays.hpp"

namespace python {

namespace {

template <class T>
std::pair<double, double> alignment(input_array const& g, input_array const& a, input_array const& b) {
  char const* const where = "alignment";
  nb::gil_scoped_release const others_run;
  lease const be;
  matrix<T, cpu> wide_g, wide_a, wide_b;
  auto const gv = g.as<T>(*be, wide_g, where, "G"), av = a.as<T>(*be, wide_a, where, "A"),
             bv = b.as<T>(*be, wide_b, where, "B");
  require_shape(av, av.rows, gv.cols, where, "A");
  require_shape(bv, gv.rows, av.rows, where, "B");
  if (av.rows < 1) raise<shape_error>(where, "A", shape_text(av.rows, av.cols), "a rank of at least 1");
  auto const best = gram{}.top(*be, view_list(&gv, 1), std::min({2 * av.rows, gv.rows, gv.cols}));
  if (best.flags[0] != svd_usable)
    raise<numeric_error>(where, "G", describe_flags(best.flags[0]), "finite and not zero");
  auto const found = first_step_alignment(*be, gv, av, bv, best);
  return {found.cosine, found.attained};
}

}  // namespace

void add_diagnostics(nb::module_& m) {
  m.def(
      "alignment",
      [](nb::handle g, nb::handle a, nb::handle b) {
        auto const gv = input_array::matrix(g, "alignment", "G"), av = input_array::matrix(a, "alignment", "A"),
                   bv = input_array::matrix(b, "alignment", "B");
        bool const wide = gv.is_double() || av.is_double() || bv.is_double();
        auto const found = wide ? alignment<double>(gv, av, bv) : alignment<float>(gv, av, bv);
        return nb::make_tuple(found.first, found.second);
      },
      nb::arg("G").none(), nb::arg("A").none(), nb::arg("B").none(),
      nb::sig("def alignment(G: typing.Any, A: typing.Any, B: typing.Any) -> tuple[float, float]"),
      "How well the first SGD step of A and B follows full fine-tuning's: (cosine, attained). See loraga.alignment.");
  m.def(
      "effective_rank", [](std::vector<double> const& sigma) { return effective_rank(sigma); }, nb::arg("s"),
      nb::sig("def effective_rank(s: collections.abc.Sequence[float] | numpy.typing.NDArray[typing.Any]) -> float"),
      "How many directions a spectrum really uses: n for n equal singular values, 1 for a single one.\n"
      "exp(-sum p_i*log p_i), p_i = s_i/sum s (Roy, Vetterli, 2007)");
}

}  // namespace python

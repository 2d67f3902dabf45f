#include <nanobind/stl/string.h>

#include <loraga/svd/eigen.hpp>

#include "arrays.hpp"

namespace python {

namespace {

/// What `svd` may be told beside the method.
struct svd_request {
  std::string method;
  index_t rank, block, depth, width;
  int iterations;
  std::uint64_t seed;

  void refuse_others(bool given, char const* option, char const* of) const {
    if (given) raise<value_error>("svd", option, "given with method '" + method + "'", of);
  }
};

/// f(the method of that name).  errors value_error
template <class F>
auto with_method(svd_request const& r, F&& f) {
  r.refuse_others(r.method != "krylov" && (r.block != 0 || r.depth != 0), "block or depth", "with 'krylov' alone");
  r.refuse_others(r.method != "subspace" && (r.width != 0 || r.iterations >= 0), "width or iterations",
                  "with 'subspace' alone");
  if (r.method == "auto") return f(automatic_svd{svd_quality::balanced, r.seed});
  if (r.method == "tight") return f(automatic_svd{svd_quality::tight, r.seed});
  if (r.method == "gram") return f(gram{});
  if (r.method == "exact") return f(eigen_svd{});
  if (r.method == "krylov") return f(block_krylov{r.block, r.depth ? r.depth : block_krylov{}.depth, r.seed});
  if (r.method == "subspace")
    return f(subspace{r.width, r.iterations >= 0 ? r.iterations : subspace{}.iterations, r.seed});
  raise<value_error>("svd", "method", "'" + r.method + "'", "auto, tight, gram, exact, krylov or subspace");
}

template <class T>
nb::tuple factored(input_array const& g, svd_request const& request, bool check) {
  std::vector<T> u, s, v;
  int flags = 0;
  double energy = 0;
  {
    nb::gil_scoped_release const others_run;
    lease const be;
    matrix<T, cpu> memory;
    auto const a = g.as<T>(*be, memory, "svd", "G");
    auto const found = with_method(request, [&](auto const& method) {
      return method.top(*be, view_list<T const, host_space>(&a, 1), request.rank);
    });
    flags = found.flags[0], energy = found.energy[0];
    if (check && flags != svd_usable)
      raise<numeric_error>("svd", "G", describe_flags(flags), "finite and not zero (check=False returns the flags)");
    u = read_all(*be, found[0].u), s = read_all(*be, found[0].s), v = read_all(*be, found[0].v);
  }
  auto const k = request.rank;
  return nb::make_tuple(numpy_array(std::move(u), g.rows(), k, true), numpy_column(std::move(s)),
                        numpy_array(std::move(v), g.cols(), k, true), energy, flags);
}

}  // namespace

void add_svd(nb::module_& m) {
  m.def(
      "svd",
      [](nb::handle g, index_t rank, std::string const& method, index_t block, index_t depth, index_t width,
         int iterations, std::uint64_t seed, bool check) {
        auto const a = input_array::matrix(g, "svd", "G");
        svd_request const request{method, rank, block, depth, width, iterations, seed};
        return a.is_double() ? factored<double>(a, request, check) : factored<float>(a, request, check);
      },
      nb::arg("G").none(), nb::arg("rank"), nb::kw_only(), nb::arg("method") = "auto", nb::arg("block") = 0,
      nb::arg("depth") = 0, nb::arg("width") = 0, nb::arg("iterations") = -1, nb::arg("seed") = 0,
      nb::arg("check") = true,
      nb::sig(
          "def svd(G: typing.Any, rank: int, *, method: str = 'auto', block: int = 0, depth: int = 0, width: int = 0, "
          "iterations: int = -1, seed: int = 0, check: bool = True) -> tuple[numpy.typing.NDArray[typing.Any], "
          "numpy.typing.NDArray[typing.Any], numpy.typing.NDArray[typing.Any], float, int]"),
      "The leading singular triplets: (U, s, V, energy, flags). See loraga.svd.");
  m.def(
      "describe_flags", [](int flags) { return describe_flags(flags); }, nb::arg("flags"),
      "The gravest of an SVD's flags in words.");
}

}  // namespace python

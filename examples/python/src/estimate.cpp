#include "estimate.hpp"

#include <nanobind/stl/string.h>

#include <limits>
#include <new>
#include <set>

namespace python {

namespace {

/// Whether that is float64.  errors  value_error unless it is float32 or float64
bool is_double(std::string const& dtype, char const* where) {
  if (dtype != "float32" && dtype != "float64")
    raise<value_error>(where, "dtype", "'" + dtype + "'", "float32 or float64, in which sums are kept");
  return dtype == "float64";
}

/// errors  type_refused for float64, where sums are kept in float32
void refuse_double(bool in_double, input_array const& a, std::string const& where, char const* name, char const* of) {
  if (a.is_double() && !in_double)
    raise<type_refused>(where, name, "float64",
                        std::string("float32, float16 or bfloat16, or ") + of + "(..., dtype='float64')");
}

/// f(the accumulator) in this thread's turn, while other Python threads run.
template <class O, class F>
auto in_turn(O& of, F&& f) {
  nb::gil_scoped_release const others_run;
  std::lock_guard const mine(of.in_use);
  lease const be;
  return std::visit([&](auto& held) { return f(*be, held); }, of.held());
}

/// One layer's part of a micro-batch.
struct layer_batch {
  estimate* into;
  input_array dy, x;
};

/// Throws unless the layer's estimate can take it.  errors  as batch_of; numeric_error, shape_error, type_refused
void check_batch(layer_batch const& b, double weight, std::string const& where) {
  auto const& e = *b.into;
  if (b.x.rows() != e.in()) raise_shape(b.x.cols(), b.x.rows(), b.x.cols(), e.in(), where, "x (tokens x features)");
  if (b.dy.rows() != e.out() || b.dy.cols() != b.x.cols())
    raise_shape(b.dy.cols(), b.dy.rows(), b.x.cols(), e.out(), where, "dy (tokens x features)");
  if (b.x.cols() == 0)
    raise<shape_error>(where, "dy (tokens x features)", shape_text(0, e.out()),
                       "at least one token: an empty micro-batch would count in the mean");
  require_weight(weight, where);
  refuse_double(e.in_double(), b.dy, where, "dy", "Estimate");
  refuse_double(e.in_double(), b.x, where, "x", "Estimate");
  nb::gil_scoped_release const others_run;
  lease const be;
  b.dy.visit([&](auto v) { require_finite(*be, v, where, "dy"); });
  b.x.visit([&](auto v) { require_finite(*be, v, where, "x"); });
}

void add_outer(layer_batch const& b, double weight) {
  in_turn(*b.into, [&](cpu& be, auto& g) {
    using T = typename std::remove_reference_t<decltype(g)>::value_type;
    matrix<T, cpu> wide_dy, wide_x;
    g.add_outer(be, b.dy.as<T>(be, wide_dy, "Estimate.add", "dy"), b.x.as<T>(be, wide_x, "Estimate.add", "x"), weight);
  });
}

layer_batch batch_of(estimate& into, nb::handle dy, nb::handle x, std::string const& where) {
  return {&into, input_array::activations(dy, where, "dy"), input_array::activations(x, where, "x")};
}

/// One micro-batch of many layers: all are looked at before the first one is added.
void add_batches(nb::list const& layers, double weight) {
  std::vector<layer_batch> all;
  std::set<estimate const*> seen;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const where = "add_batches(layer " + std::to_string(i) + ")";
    auto const parts = nb::cast<nb::tuple>(layers[i]);
    auto& e = nb::cast<estimate&>(parts[0]);
    if (!seen.insert(&e).second) raise<value_error>(where, "estimate", "there twice", "each layer's own, once");
    all.push_back(batch_of(e, parts[1], parts[2], where));
    check_batch(all.back(), weight, where);
  }
  for (auto const& b : all) {
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    add_outer(b, weight);
  }
}

void merge(estimate& into, estimate& other) {
  if (&into == &other) raise<value_error>("Estimate.merge", "other", "this estimate itself", "another one");
  nb::gil_scoped_release const others_run;
  std::scoped_lock const both(into.in_use, other.in_use);
  lease const be;
  std::visit(
      [&]<class G>(G& g) {
        auto const* same = std::get_if<G>(&other.held());
        if (!same) raise<value_error>("Estimate.merge", "other", "of another kind or dtype", "one built like this");
        g.merge(*be, *same);
      },
      into.held());
}

nb::object mean(estimate& of) {
  index_t const out = of.out(), in = of.in();
  auto const values = [&]<class T>(T) {
    std::vector<T> to(static_cast<std::size_t>(out * in));
    in_turn(of, [&](cpu& be, auto& g) {
      using V = typename std::remove_reference_t<decltype(g)>::value_type;
      if constexpr (std::is_same_v<V, T>) g.estimate(be, row_major(to.data(), out, in));
    });
    return numpy_array(std::move(to), out, in);
  };
  return of.in_double() ? values(double{}) : values(float{});
}

template <class T>
nb::tuple leading(estimate& of, index_t k) {
  std::vector<T> u, s, v;
  double energy = 0;
  int flags = 0;
  in_turn(of, [&](cpu& be, auto& g) {
    if constexpr (std::is_same_v<typename std::remove_reference_t<decltype(g)>::value_type, T>) {
      auto const found = g.top(be, automatic_svd{}, k);
      energy = found.energy[0], flags = found.flags[0];
      if (flags != svd_usable) raise<numeric_error>("top", "gradient", describe_flags(flags), "finite and not zero");
      u = read_all(be, found[0].u), s = read_all(be, found[0].s), v = read_all(be, found[0].v);
    }
  });
  return nb::make_tuple(numpy_array(std::move(u), of.out(), k, true), numpy_column(std::move(s)),
                        numpy_array(std::move(v), of.in(), k, true), energy, flags);
}

constexpr index_t largest_side = (index_t{1} << 31) - 1;

/// A Python int, or a number that says it is one, between two.
/// errors  type_refused for other types, 4.0 among them; value_error for what lies outside
index_t whole_number(nb::handle from, std::string_view where, std::string_view name, index_t least, index_t most) {
  bool const is_one = PyIndex_Check(from.ptr()) && !PyBool_Check(from.ptr());
  std::string const text = nb::str(from).c_str();
  if (!is_one)
    raise<type_refused>(where, name, text + ", of type " + nb::str(from.type().attr("__name__")).c_str(),
                        "a whole number (int)");
  Py_ssize_t const value = PyNumber_AsSsize_t(from.ptr(), nullptr);  // the nearest there is
  if (value < least || value > most)
    raise<value_error>(where, name, text, std::to_string(least) + " to " + std::to_string(most));
  return value;
}
std::uint64_t seed_of(nb::handle from, std::string_view where) {
  return static_cast<std::uint64_t>(whole_number(from, where, "seed", 0, std::numeric_limits<index_t>::max()));
}

/// make(), whose numbers take so much memory.  errors  MemoryError with the bytes, where they are not to be had
template <class F>
void in_memory(char const* what, double numbers, bool in_double, F const& make) {
  try {
    make();
  } catch (std::bad_alloc const&) {
    double const gib = numbers * (in_double ? 8 : 4) / (1024.0 * 1024 * 1024);
    PyErr_SetString(PyExc_MemoryError, (std::string(what) + ": it takes " + std::to_string(gib) +
                                        " GiB, expected a size that fits into memory")
                                           .c_str());
    throw nb::python_error();
  }
}

estimate_request request_of(nb::handle out, nb::handle in, nb::handle rank, std::string const& kind, nb::handle width,
                            nb::handle power_steps, std::string const& dtype, nb::handle seed) {
  char const* const where = "Estimate";
  if (kind != "incremental" && kind != "dense")
    raise<value_error>(where, "kind", "'" + kind + "'", "incremental or dense");
  estimate_request r{};
  r.out = whole_number(out, where, "out_features", 1, largest_side);
  r.in = whole_number(in, where, "in_features", 1, largest_side);
  index_t const most = std::min(r.out, r.in);
  r.dense = kind == "dense";
  r.rank = whole_number(rank, where, "rank", 1, r.dense ? largest_side : most);
  r.width = whole_number(width, where, "width", 0, largest_side);
  r.power_steps = static_cast<int>(whole_number(power_steps, where, "power_steps", 0, 1000));
  r.in_double = is_double(dtype, where);
  r.seed = seed_of(seed, where);
  return r;
}

void define_estimate(nb::module_& m) {
  nb::class_<estimate>(
      m, "Estimate",
      "The mean gradient of one linear layer, W out_features x in_features, over micro-batches.\n\n"
      "kind 'incremental' keeps `width` leading triplets (4*rank unless it is said) and never forms a "
      "gradient; 'dense' keeps the mean itself, which gora and lora-sb are exact with. Sums are kept in "
      "dtype, float32 or float64; 16-bit arrays are widened as they come in.")
      .def(
          "__init__",
          [](estimate* self, nb::handle out, nb::handle in, nb::handle rank, std::string const& kind, nb::handle width,
             nb::handle power_steps, std::string const& dtype, nb::handle seed) {
            auto const request = request_of(out, in, rank, kind, width, power_steps, dtype, seed);
            in_memory("Estimate", request.numbers(), request.in_double, [&] { new (self) estimate(request); });
          },
          nb::arg("out_features"), nb::arg("in_features"), nb::arg("rank") = 8, nb::kw_only(),
          nb::arg("kind") = "incremental", nb::arg("width") = 0, nb::arg("power_steps") = 0,
          nb::arg("dtype") = "float32", nb::arg("seed") = 0,
          nb::sig(
              "def __init__(self, out_features: int, in_features: int, rank: int = 8, *, kind: str = 'incremental', "
              "width: int = 0, power_steps: int = 0, dtype: str = 'float32', seed: int = 0) -> None"))
      .def(
          "add",
          [](estimate& e, nb::handle dy, nb::handle x, double weight) {
            auto const batch = batch_of(e, dy, x, "Estimate.add");
            check_batch(batch, weight, "Estimate.add");
            add_outer(batch, weight);
          },
          nb::arg("dy").none(), nb::arg("x").none(), nb::arg("weight") = 1.0,
          nb::sig("def add(self, dy: typing.Any, x: typing.Any, weight: float = 1.0) -> None"),
          "Adds dW = dy.T @ x of one micro-batch: what came back to the layer's output, tokens x out_features, and "
          "what "
          "went into it, tokens x in_features. Leading dimensions are tokens.")
      .def(
          "add_gradient",
          [](estimate& e, nb::handle dw, double weight) {
            auto const array = input_array::matrix(dw, "Estimate.add_gradient", "dw");
            refuse_double(e.in_double(), array, "Estimate.add_gradient", "dw", "Estimate");
            in_turn(e, [&](cpu& be, auto& g) {
              using T = typename std::remove_reference_t<decltype(g)>::value_type;
              matrix<T, cpu> wide;
              auto const v = array.as<T>(be, wide, "Estimate.add_gradient", "dw");
              require_shape(v, g.rows(), g.cols(), "Estimate.add_gradient", "dw");
              require_weight(weight, "Estimate.add_gradient");
              require_finite(be, v, "Estimate.add_gradient", "dw");
              g.add(be, v, weight);
            });
          },
          nb::arg("dw").none(), nb::arg("weight") = 1.0,
          nb::sig("def add_gradient(self, dw: typing.Any, weight: float = 1.0) -> None"),
          "Adds the gradient of the weight itself, out_features x in_features.")
      .def("merge", &merge, nb::arg("other"), "Adds all that another estimate of this layer, built alike, has seen.")
      .def(
          "reset", [](estimate& e) { in_turn(e, [](cpu& be, auto& g) { g.reset(be); }); }, "Forgets all it has seen.")
      .def("mean", &mean, nb::sig("def mean(self) -> numpy.typing.NDArray[typing.Any]"),
           "The mean gradient, out_features x in_features; of an incremental one what its triplets give.")
      .def_prop_ro("out_features", &estimate::out)
      .def_prop_ro("in_features", &estimate::in)
      .def_prop_ro("width", &estimate::width, "Triplets it can give; of a dense one all there are.")
      .def_prop_ro("kind", [](estimate const& e) { return e.dense() ? "dense" : "incremental"; })
      .def_prop_ro("dtype", [](estimate const& e) { return e.in_double() ? "float64" : "float32"; })
      .def_prop_ro(
          "count", [](estimate& e) { return in_turn(e, [](cpu&, auto& g) { return g.count(); }); },
          "Micro-batches it has seen.")
      .def_prop_ro(
          "weight", [](estimate& e) { return in_turn(e, [](cpu&, auto& g) { return g.weight(); }); },
          "The sum of their weights.")
      .def_prop_ro(
          "turn",
          [](estimate& e) {
            return in_turn(e, [](cpu&, auto& g) -> double {
              if constexpr (requires { g.turn(); }) return g.turn();
              else raise<state_error>("Estimate.turn", "kind", "dense", "incremental, which watches its triplets");
            });
          },
          "By how much the last micro-batch turned the leading directions, 0 ... 1. Small: more of them change "
          "little.");
  m.def(
      "top", [](estimate& e, index_t k) { return e.in_double() ? leading<double>(e, k) : leading<float>(e, k); },
      nb::arg("estimate"), nb::arg("k"),
      nb::sig("def top(estimate: Estimate, k: int) -> tuple[numpy.typing.NDArray[typing.Any], "
              "numpy.typing.NDArray[typing.Any], numpy.typing.NDArray[typing.Any], float, int]"),
      "The k leading triplets of the mean gradient. See loraga.top.");
  m.def("add_batches", &add_batches, nb::arg("layers"), nb::arg("weight") = 1.0,
        nb::sig("def add_batches(layers: list[tuple[Estimate, typing.Any, typing.Any]], weight: float = 1.0) -> None"),
        "Estimate.add of many layers: (estimate, dy, x) of each.");
}

void define_inputs(nb::module_& m) {
  nb::class_<inputs>(m, "Inputs",
                     "Mean and scatter of what goes into one layer: eva starts from it, and, with by_peak=True, corda.")
      .def(
          "__init__",
          [](inputs* self, nb::handle in_features, bool by_peak, std::string const& dtype) {
            auto const features = whole_number(in_features, "Inputs", "in_features", 1, largest_side);
            bool const wide = is_double(dtype, "Inputs");
            auto const n = static_cast<double>(features);
            in_memory("Inputs", n * n, wide, [&] { new (self) inputs(features, by_peak, wide); });
          },
          nb::arg("in_features"), nb::kw_only(), nb::arg("by_peak") = false, nb::arg("dtype") = "float32",
          nb::sig("def __init__(self, in_features: int, *, by_peak: bool = False, dtype: str = 'float32') -> None"))
      .def(
          "add",
          [](inputs& s, nb::handle x, double weight) {
            auto const array = input_array::activations(x, "Inputs.add", "x");
            refuse_double(s.in_double(), array, "Inputs.add", "x", "Inputs");
            in_turn(s, [&](cpu& be, auto& held) {
              using T = typename std::remove_reference_t<decltype(held)>::value_type;
              matrix<T, cpu> wide;
              auto const v = array.as<T>(be, wide, "Inputs.add", "x");
              require_shape(v, held.features(), v.cols, "Inputs.add", "x (features x tokens)");
              require_finite(be, v, "Inputs.add", "x");
              held.add(be, v, weight);
            });
          },
          nb::arg("x").none(), nb::arg("weight") = 1.0,
          nb::sig("def add(self, x: typing.Any, weight: float = 1.0) -> None"),
          "Adds what went into the layer in one micro-batch, tokens x in_features.")
      .def(
          "merge",
          [](inputs& into, inputs& other) {
            if (&into == &other) raise<value_error>("Inputs.merge", "other", "these inputs themselves", "others");
            nb::gil_scoped_release const others_run;
            std::scoped_lock const both(into.in_use, other.in_use);
            lease const be;
            std::visit(
                [&]<class S>(S& s) {
                  auto const* same = std::get_if<S>(&other.held());
                  if (!same) raise<value_error>("Inputs.merge", "other", "of another dtype", "one built like this");
                  s.merge(*be, *same);
                },
                into.held());
          },
          nb::arg("other"), "Adds all that others of this layer, built alike, have seen.")
      .def(
          "reset", [](inputs& s) { in_turn(s, [](cpu& be, auto& held) { held.reset(be); }); },
          "Forgets all it has seen.")
      .def_prop_ro("in_features", &inputs::features)
      .def_prop_ro("dtype", [](inputs const& s) { return s.in_double() ? "float64" : "float32"; })
      .def_prop_ro("by_peak", [](inputs& s) { return in_turn(s, [](cpu&, auto& held) { return held.by_peak(); }); })
      .def_prop_ro("count", [](inputs& s) { return in_turn(s, [](cpu&, auto& held) { return held.count(); }); });
}

}  // namespace

estimate::kinds estimate::make(estimate_request const& r) {
  lease const be;
  gradient_options const options{.rank = r.rank, .width = r.width, .power_steps = r.power_steps, .seed = r.seed};
  if (r.dense && r.in_double) return dense_gradient<cpu, double>(*be, r.out, r.in, options);
  if (r.dense) return dense_gradient<cpu, float>(*be, r.out, r.in, options);
  if (r.in_double) return incremental_gradient<cpu, double>(*be, r.out, r.in, options);
  return incremental_gradient<cpu, float>(*be, r.out, r.in, options);
}
inputs::kinds inputs::make(index_t features, bool by_peak, bool in_double) {
  lease const be;
  if (in_double) return input_statistics<cpu, double>(*be, features, {by_peak});
  return input_statistics<cpu, float>(*be, features, {by_peak});
}

void add_estimates(nb::module_& m) {
  define_estimate(m);
  define_inputs(m);
}

}  // namespace python

#include "estimate.hpp"

#include <nanobind/stl/string.h>

#include <set>

namespace python {

namespace {

/// Whether that is float64.  errors  value_error unless it is float32 or float64
bool is_double(std::string const& dtype, char const* where) {
  if (dtype != "float32" && dtype != "float64")
    raise<value_error>(where, "dtype", "'" + dtype + "'", "float32 or float64, in which sums are kept");
  return dtype == "float64";
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
  require_weight(weight, where);
  if (!e.in_double()) {
    b.dy.require_type<float>(where, "dy");
    b.x.require_type<float>(where, "x");
  }
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

void define_estimate(nb::module_& m) {
  nb::class_<estimate>(
      m, "Estimate",
      "The mean gradient of one linear layer, W out_features x in_features, over micro-batches.\n\n"
      "kind 'incremental' keeps `width` leading triplets (4*rank unless it is said) and never forms a "
      "gradient; 'dense' keeps the mean itself, which gora and lora-sb are exact with. Sums are kept in "
      "dtype, float32 or float64; 16-bit arrays are widened as they come in.")
      .def(
          "__init__",
          [](estimate* self, index_t out, index_t in, index_t rank, std::string const& kind, index_t width,
             int power_steps, std::string const& dtype, std::uint64_t seed) {
            if (kind != "incremental" && kind != "dense")
              raise<value_error>("Estimate", "kind", "'" + kind + "'", "incremental or dense");
            new (self)
                estimate({out, in, rank, width, power_steps, kind == "dense", is_double(dtype, "Estimate"), seed});
          },
          nb::arg("out_features"), nb::arg("in_features"), nb::arg("rank") = 8, nb::kw_only(),
          nb::arg("kind") = "incremental", nb::arg("width") = 0, nb::arg("power_steps") = 0,
          nb::arg("dtype") = "float32", nb::arg("seed") = 0)
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
          [](inputs* self, index_t features, bool by_peak, std::string const& dtype) {
            new (self) inputs(features, by_peak, is_double(dtype, "Inputs"));
          },
          nb::arg("in_features"), nb::kw_only(), nb::arg("by_peak") = false, nb::arg("dtype") = "float32")
      .def(
          "add",
          [](inputs& s, nb::handle x, double weight) {
            auto const array = input_array::activations(x, "Inputs.add", "x");
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

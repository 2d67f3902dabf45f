#include "start.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <tools/init_checks.hpp>
#include <tools/init_choices.hpp>

namespace python {

namespace {

using tools::facts_of;
using tools::start_model;
using tools::start_source;

template <class T>
std::string list_of(tools::named_choices<T> const& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i)
    text += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i].first;
  return text;
}
/// errors  value_error for a name that is none of them
template <class T>
T choice(std::string const& name, tools::named_choices<T> const& choices, char const* option) {
  for (auto const& [known, value] : choices)
    if (known == name) return value;
  raise<value_error>("start", option, "'" + name + "'", list_of(choices));
}
template <class T>
std::optional<T> choice(std::optional<std::string> const& name, tools::named_choices<T> const& choices,
                        char const* option) {
  if (!name) return {};
  return choice(*name, choices, option);
}

/// The settings of a start that all its layers share.
struct settings {
  tools::init_options options;
  std::optional<std::string> anchor;

  tools::method_facts const& facts() const { return options.facts(); }
  bool in_place() const { return anchor == "in_place"; }
};

/// errors  value_error for names that nobody knows, and for options that do not fit the method
settings settings_of(std::string const& method, double alpha, std::optional<std::string> const& scaling,
                     std::optional<std::string> const& anchor, std::optional<double> gamma, std::optional<double> step,
                     std::optional<std::string> const& directions, std::optional<std::string> const& scale,
                     std::optional<std::string> const& part, bool clip, std::string const& quality,
                     std::uint64_t seed) {
  settings s;
  auto& o = s.options;
  o.method = choice(method, tools::names_of_methods(), "method");
  o.alpha = alpha;
  if (scaling)
    o.rank_stable = choice(*scaling, tools::named_choices<bool>{{"rslora", true}, {"lora", false}}, "scaling");
  o.gamma = gamma, o.step = step, o.clip = clip, o.seed = seed;
  o.directions = choice(directions, tools::names_of_directions(), "directions");
  o.scale = choice(scale, tools::names_of_scales(), "scale");
  o.part = choice(part, tools::names_of_parts(), "part");
  o.quality = choice(quality, tools::names_of_qualities(), "quality");
  tools::check_method_options(o, "");
  require_value(is_finite(alpha) && alpha > 0, alpha, "start", "alpha", "a positive finite number");
  if (anchor) (void)choice(*anchor, tools::named_choices<int>{{"in_place", 0}, {"pair", 1}}, "anchor");
  if (o.has_anchor() && !anchor)
    raise<value_error>("start", "anchor", "missing with method " + method,
                       "'in_place' (W becomes W - s*B*A) or 'pair' (passes subtract s*start_B*start_A), because this "
                       "start is not zero");
  if (!o.has_anchor() && anchor)
    raise<value_error>("start", "anchor", "given with method " + method,
                       s.facts().model == start_model::ahead ? "nothing: the model starts a step ahead on W as it is"
                                                             : "nothing: B*A is zero at the start");
  s.anchor = anchor;
  return s;
}

/// A layer of a call: (module, W, estimate, inputs, shape, rank), each of which but the first and last may be None.
struct requested_layer {
  layer_request from;
  std::optional<output_array> changed;  ///< W, where the start is anchored in it

  requested_layer(nb::tuple const& t, settings const& s, std::uint64_t number) {
    from.module = nb::cast<std::string>(t[0]);
    from.number = number;
    std::string const where = "start(" + from.module + ")";
    if (!t[1].is_none()) {
      from.weight = input_array::matrix(t[1], where, "W");
      if (s.in_place()) changed.emplace(t[1], where, "W");
    }
    if (!t[2].is_none()) from.gradient = &nb::cast<estimate&>(t[2]);
    if (!t[3].is_none()) from.statistics = &nb::cast<python::inputs&>(t[3]);
    if (!t[4].is_none()) {
      auto const shape = nb::cast<nb::tuple>(t[4]);
      from.out = nb::cast<index_t>(shape[0]), from.in = nb::cast<index_t>(shape[1]);
    }
    from.rank = nb::cast<index_t>(t[5]);
    check_parts(s, where);
    find_shape(where);
    check_rank(where);
    from.scale = s.options.stable_ranks() ? rank_stable_scaling{s.options.alpha}.scale(from.out, from.in, from.rank)
                                          : classic_scaling{s.options.alpha}.scale(from.out, from.in, from.rank);
  }

  /// Whether A and B are float64: as the source is, or as W is where there is none.
  bool in_double() const {
    if (from.gradient) return from.gradient->in_double();
    if (from.statistics) return from.statistics->in_double();
    return from.weight && from.weight->is_double();
  }

 private:
  void check_parts(settings const& s, std::string const& where) const {
    auto const method = std::string("method ") + s.facts().name;
    auto const wanted = [&](bool given, bool read, char const* name, char const* what) {
      if (read && !given) raise<value_error>(where, name, "missing with " + method, what);
      if (given && !read) raise<value_error>(where, name, "given with " + method, "nothing: it is not read");
    };
    bool const gradients = s.facts().source == start_source::gradients;
    wanted(from.gradient, gradients, "estimate", "an Estimate of the layer's gradient");
    bool const of_weight = s.facts().source == start_source::weights || s.options.method == tools::start_method::corda;
    if (of_weight && !from.weight)
      raise<value_error>(where, "W", "missing", "the layer's weight, which " + std::string(s.facts().name) + " reads");
    wanted(from.statistics, s.facts().source == start_source::inputs, "inputs", "the layer's Inputs");
    if (s.options.method == tools::start_method::lora_sb && !from.gradient->dense())
      raise<value_error>(where, "estimate", "incremental with " + method,
                         "Estimate(..., kind='dense'): it starts from the sign of every entry");
    if (s.in_place() && !changed)
      raise<value_error>(where, "W", "missing with anchor 'in_place'", "the weight to change");
    if (from.rank < 1) raise<value_error>(where, "rank", std::to_string(from.rank), "at least 1");
    check_width(s, where);
  }
  /// Throws where an estimate has not the triplets that the start takes.
  void check_width(settings const& s, std::string const& where) const {
    using enum tools::start_method;
    if (s.options.method != lora_ga && s.options.method != lora_one) return;
    auto const& e = *from.gradient;
    index_t const wanted = s.facts().triplets_per_rank * from.rank;
    if (wanted <= e.width() || wanted > std::min(e.out(), e.in())) return;  // what no estimate has, the start refuses
    raise<value_error>(
        where, "rank",
        std::to_string(from.rank) + ", and the estimate keeps " + std::to_string(e.width()) + " triplets",
        "an Estimate(..., rank=" + std::to_string(from.rank) + ") or Estimate(..., width=" + std::to_string(wanted) +
            "): " + s.facts().name + " takes " + std::to_string(wanted));
  }
  /// Throws where the layer is too small for the rank.
  void check_rank(std::string const& where) const {
    index_t const most = std::min(from.out, from.in);
    if (from.rank > most)
      raise<value_error>(where, "rank", std::to_string(from.rank),
                         "at most " + std::to_string(most) + " for " + shape_text(from.out, from.in));
  }
  /// From whatever tells it; all must agree.
  void find_shape(std::string const& where) {
    auto const say = [&](index_t out, index_t in, char const* who) {
      if (from.out == 0 && from.in == 0) from.out = out, from.in = in;
      else if (from.out != out || from.in != in) raise_shape(out, in, from.out, from.in, where, who);
    };
    if (from.weight) say(from.weight->rows(), from.weight->cols(), "W");
    if (from.gradient) say(from.gradient->out(), from.gradient->in(), "estimate");
    if (from.out < 1 || from.in < 1)
      raise<value_error>(where, "shape", "not known", "W, an estimate or shape=(out_features, in_features)");
    if (from.statistics && from.statistics->features() != from.in)
      raise<shape_error>(where, "inputs", std::to_string(from.statistics->features()) + " features",
                         std::to_string(from.in));
    bool const wide = in_double();
    if (from.weight && !wide) from.weight->require_type<float>(where, "W");
  }
};

/// Throws where two layers would change the same numbers.
void require_own_weights(std::vector<requested_layer> const& layers) {
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (layers[i].changed && layers[j].changed &&
          loraga::detail::overlap(layers[i].changed->place(), layers[j].changed->place()))
        raise<alias_error>("start(" + layers[i].from.module + ")", "W", "overlapping that of " + layers[j].from.module,
                           "a W that no other layer has, or anchor='pair'");
}

using any_start = std::variant<started_layer<float>, started_layer<double>>;

/// W -= s*B*A in C, W being of C or a narrower type: rounded to that once.
template <class C, class T, class U>
void subtract(cpu& be, layer_request const& l, started_layer<T> const& s, writing<U> w) {
  auto const in_c = [&]<class V>(reading<V> v, matrix<C, cpu>& memory) -> reading<C> {
    if constexpr (std::is_same_v<V, C>) return v;
    else {
      memory = {be, v.rows, v.cols};
      convert(be, v, memory.view());
      return memory.view();
    }
  };
  matrix<C, cpu> wide_a, wide_b, wide_w;
  auto const a = in_c(reading<T>(row_major(s.a.data(), l.rank, l.in)), wide_a);
  auto const b = in_c(reading<T>(row_major(s.b.data(), l.out, l.rank)), wide_b);
  if constexpr (std::is_same_v<U, C>) return be.gemm(-l.scale, b, a, 1.0, w);
  (void)in_c(read_only(w), wide_w);
  be.gemm(-l.scale, b, a, 1.0, wide_w.view());
  convert(be, wide_w.view(), w);
}
void subtract(cpu& be, layer_request const& l, any_start const& start, output_array const& w) {
  std::visit([&]<class T, class U>(started_layer<T> const& s,
                                   writing<U> to) { subtract<std::common_type_t<T, compute_t<U>>>(be, l, s, to); },
             start, w.view());
}

nb::tuple as_tuple(layer_request const& l, any_start&& start) {
  return std::visit(
      [&](auto&& s) {
        return nb::make_tuple(numpy_array(std::move(s.a), l.rank, l.in), numpy_array(std::move(s.b), l.out, l.rank),
                              l.scale, s.coverage);
      },
      std::move(start));
}

/// All layers are started before the first W is changed.
nb::list start_layers(settings const& s, nb::list const& requests) {
  std::vector<requested_layer> layers;
  for (std::size_t i = 0; i < requests.size(); ++i)
    layers.emplace_back(nb::cast<nb::tuple>(requests[i]), s, static_cast<std::uint64_t>(i));
  require_own_weights(layers);
  std::vector<any_start> starts;
  {
    nb::gil_scoped_release const others_run;
    lease const be;
    for (auto const& l : layers)
      if (l.changed) l.from.weight->visit([&](auto w) { require_finite(*be, w, "start(" + l.from.module + ")", "W"); });
    for (auto const& l : layers) {
      let_signals_in();
      if (l.in_double()) starts.emplace_back(start_layer<double>(*be, s.options, l.from));
      else starts.emplace_back(start_layer<float>(*be, s.options, l.from));
    }
    for (std::size_t i = 0; i < layers.size(); ++i)
      if (layers[i].changed) subtract(*be, layers[i].from, starts[i], *layers[i].changed);
  }
  nb::list results;
  for (std::size_t i = 0; i < layers.size(); ++i) results.append(as_tuple(layers[i].from, std::move(starts[i])));
  return results;
}

}  // namespace

void add_starts(nb::module_& m) {
  m.def(
      "methods",
      [] {
        nb::list names;
        for (auto const& f : tools::all_methods()) names.append(nb::str(f.name));
        return names;
      },
      nb::sig("def methods() -> list[str]"), "The names of all starts.");
  m.def(
      "start_layers",
      [](nb::list const& layers, std::string const& method, double alpha, std::optional<std::string> scaling,
         std::optional<std::string> anchor, std::optional<double> gamma, std::optional<double> step,
         std::optional<std::string> directions, std::optional<std::string> scale, std::optional<std::string> part,
         bool clip, std::string const& quality, std::uint64_t seed) {
        return start_layers(
            settings_of(method, alpha, scaling, anchor, gamma, step, directions, scale, part, clip, quality, seed),
            layers);
      },
      nb::arg("layers"), nb::arg("method"), nb::arg("alpha"), nb::arg("scaling") = nb::none(),
      nb::arg("anchor") = nb::none(), nb::arg("gamma") = nb::none(), nb::arg("step") = nb::none(),
      nb::arg("directions") = nb::none(), nb::arg("scale") = nb::none(), nb::arg("part") = nb::none(),
      nb::arg("clip") = false, nb::arg("quality") = "balanced", nb::arg("seed") = 0,
      nb::sig("def start_layers(layers: list[tuple[str, typing.Any, Estimate | None, Inputs | None, tuple[int, int] | "
              "None, "
              "int]], method: str, alpha: float, scaling: str | None = None, anchor: str | None = None, gamma: float | "
              "None = None, step: float | None = None, directions: str | None = None, scale: str | None = None, part: "
              "str | None = None, clip: bool = False, quality: str = 'balanced', seed: int = 0) -> "
              "list[tuple[numpy.typing.NDArray[typing.Any], numpy.typing.NDArray[typing.Any], float, float]]"),
      "(A, B, s, coverage) of each layer. See loraga.start.");
}

}  // namespace python

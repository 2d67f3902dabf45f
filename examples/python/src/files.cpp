#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <loraga/io/gguf.hpp>
#include <loraga/io/merge_peft.hpp>

#include "arrays.hpp"

// Adapters as files: PEFT's folders, merged models, GGUF.

namespace python {

namespace {

/// Copies a matrix, rounded to what files hold.
record_matrix record_matrix_of(nb::handle from, std::string const& where, char const* name) {
  auto const array = input_array::matrix(from, where, name);
  record_matrix to(array.rows(), array.cols());
  array.visit([&](auto v) {
    for (index_t i = 0; i < v.rows; ++i)
      for (index_t j = 0; j < v.cols; ++j) to.view()(i, j) = value_as<float>(v(i, j));
  });
  return to;
}
record_matrix record_column_of(nb::handle from, std::string const& where, char const* name) {
  auto const array = input_array::activations(from, where, name);  // one token
  if (array.cols() != 1) raise<shape_error>(where, name, shape_text(array.rows(), array.cols()), "one dimension");
  record_matrix to(array.rows(), 1);
  array.visit([&](auto v) {
    for (index_t i = 0; i < v.rows; ++i) to.values[static_cast<std::size_t>(i)] = value_as<float>(v(i, 0));
  });
  return to;
}

/// What A and B are rounded to in files: their own type, where both have the same of 16 bit.
dtype type_of(nb::handle a, nb::handle b, std::optional<std::string> const& said, std::string const& where) {
  if (said) {
    if (*said == "float32") return dtype::F32;
    if (*said == "float16") return dtype::F16;
    if (*said == "bfloat16") return dtype::BF16;
    raise<value_error>(where, "dtype", "'" + *said + "'", "float32, float16 or bfloat16");
  }
  std::string const of_a = input_array::matrix(a, where, "A").type(), of_b = input_array::matrix(b, where, "B").type();
  if (of_a != of_b) return dtype::F32;
  return of_a == "bfloat16" ? dtype::BF16 : of_a == "float16" ? dtype::F16 : dtype::F32;
}
char const* name_of(dtype t) { return t == dtype::BF16 ? "bfloat16" : t == dtype::F16 ? "float16" : "float32"; }

void round_to(record_matrix& m, dtype type) {
  if (type == dtype::F32) return;
  with_float_type(type, "Record", "dtype", [&]<class T>(T) {
    for (float& x : m.values) x = value_as<float>(static_cast<T>(x));
  });
}

void make_record(adapter_record* self, std::string const& module, nb::handle a, nb::handle b, double scale,
                 nb::handle start_a, nb::handle start_b, nb::handle magnitude, std::optional<std::string> const& said) {
  std::string const where = "Record(" + module + ")";
  adapter_record r{module, scale, record_matrix_of(a, where, "A"), record_matrix_of(b, where, "B"), {}, {}, {}};
  r.type = type_of(a, b, said, where);
  if (start_a.is_none() != start_b.is_none())
    raise<value_error>(where, "start_A or start_B", "missing", "both, or none");
  if (!start_a.is_none()) {
    r.start_a = record_matrix_of(start_a, where, "start_A");
    r.start_b = record_matrix_of(start_b, where, "start_B");
  }
  if (!magnitude.is_none()) r.magnitude = record_column_of(magnitude, where, "magnitude");
  for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b}) round_to(*m, r.type);
  check_record(r, "Record");
  new (self) adapter_record(std::move(r));
}

/// A record's matrix as a read-only numpy array: the record's own memory, which it keeps alive.
nb::object shown(record_matrix const& m, nb::handle owner) {
  if (m.empty()) return nb::none();
  std::array<std::size_t, 2> const shape{static_cast<std::size_t>(m.rows), static_cast<std::size_t>(m.cols)};
  return nb::cast(nb::ndarray<nb::numpy, float const>(m.values.data(), 2, shape.data(), owner));
}
template <record_matrix adapter_record::*Member>
nb::object member(nb::handle self) {
  auto const& r = nb::cast<adapter_record const&>(self);
  return shown(r.*Member, self);
}

std::optional<peft_base> base_of(std::optional<std::string> const& name, char const* where) {
  if (!name) return {};
  if (*name == "original") return peft_base::original;
  if (*name == "anchored") return peft_base::anchored;
  raise<value_error>(where, "relative_to", "'" + *name + "'", "original or anchored");
}
overwrite may_replace(bool yes) { return yes ? overwrite::yes : overwrite::no; }

void save(std::string const& folder, std::vector<adapter_record> const& records,
          std::optional<std::string> const& relative_to, std::optional<std::string> const& base,
          std::string const& base_name, std::string const& task_type, bool rslora, bool portable, double dropout,
          bool fan_in_fan_out, std::string const& module_prefix, bool replace) {
  nb::gil_scoped_release const others_run;
  peft_options const options{.profile = portable ? peft_profile::portable : peft_profile::faithful,
                             .base = base_of(relative_to, "save_peft"),
                             .rank_stable = rslora,
                             .base_model = base_name,
                             .task_type = task_type,
                             .dropout = dropout,
                             .fan_in_fan_out = fan_in_fan_out,
                             .module_prefix = module_prefix,
                             .may_replace = may_replace(replace)};
  if (base) save_peft(folder, records, options, safetensors_model(*base));
  else save_peft(folder, records, options, unchecked_names{});
}

/// An adapter's records, and those facts of its configuration that are not in them.
nb::tuple load(std::string const& folder, std::optional<std::string> const& relative_to) {
  auto adapter = [&] {
    nb::gil_scoped_release const others_run;
    return load_peft(folder, base_of(relative_to, "load_peft"));
  }();
  auto const& c = adapter.config;
  nb::dict facts;
  facts["base_model_name_or_path"] = c.base_model;
  facts["task_type"] = c.task_type;
  facts["use_rslora"] = c.rank_stable;
  facts["lora_dropout"] = c.dropout;
  facts["fan_in_fan_out"] = c.fan_in_fan_out;
  facts["init_lora_weights"] = c.init;
  return nb::make_tuple(std::move(adapter.records), facts);
}

std::vector<std::string> merge(std::string const& base, std::string const& out,
                               std::vector<std::pair<std::string, double>> const& adapters,
                               std::optional<std::string> const& relative_to, double sign,
                               std::optional<bool> fan_in_fan_out, bool replace) {
  nb::gil_scoped_release const others_run;
  std::vector<weighted_peft> all;
  for (auto const& [folder, weight] : adapters)
    all.push_back({load_peft(folder, base_of(relative_to, "merge_peft"), whole_layers::take), weight});
  lease const be;
  return merge_peft(*be, safetensors_model(base), out, all, sign,
                    {.fan_in_fan_out = fan_in_fan_out,
                     .may_replace = may_replace(replace),
                     .progress = [](index_t, index_t) { let_signals_in(); }});
}

void merge_array(nb::handle w, nb::handle a, nb::handle b, double factor) {
  char const* const where = "merge";
  output_array const to(w, where, "W");
  auto const av = input_array::matrix(a, where, "A"), bv = input_array::matrix(b, where, "B");
  nb::gil_scoped_release const others_run;
  lease const be;
  to.visit([&]<class U>(writing<U> v) {
    using C = compute_t<U>;
    matrix<C, cpu> wide_a, wide_b, wide_w;
    auto const left = bv.as<C>(*be, wide_b, where, "B"), right = av.as<C>(*be, wide_a, where, "A");
    require_shape(right, left.cols, v.cols, where, "A");
    require_shape(left, v.rows, right.rows, where, "B");
    require_value(is_finite(factor), factor, where, "scale", "a finite number");
    require_finite(*be, left, where, "B");
    require_finite(*be, right, where, "A");
    if constexpr (std::is_same_v<U, C>) {
      (*be).gemm(factor, left, right, 1.0, v);
    } else {
      wide_w = {*be, v.rows, v.cols};
      convert(*be, read_only(v), wide_w.view());
      (*be).gemm(factor, left, right, 1.0, wide_w.view());
      convert(*be, wide_w.view(), v);
    }
  });
}

void gguf(std::string const& path, std::vector<adapter_record> const& records, std::string const& architecture,
          index_t heads, index_t kv_heads, std::string const& name, std::string const& type, bool replace) {
  dtype const t = type == "bfloat16" ? dtype::BF16 : type == "float16" ? dtype::F16 : dtype::F32;
  if (t == dtype::F32 && type != "float32")
    raise<value_error>("save_gguf", "dtype", "'" + type + "'", "float32, float16 or bfloat16");
  nb::gil_scoped_release const others_run;
  save_gguf_adapter(path, records, {architecture, heads, kv_heads, name, t, may_replace(replace)});
}

void define_record(nb::module_& m) {
  nb::class_<adapter_record>(
      m, "Record",
      "One layer of an adapter, as files hold it: W + scale*(B @ A - start_B @ start_A), copied in float32 and rounded "
      "to dtype.")
      .def("__init__", &make_record, nb::arg("module"), nb::arg("A").none(), nb::arg("B").none(), nb::arg("scale"),
           nb::kw_only(), nb::arg("start_A") = nb::none(), nb::arg("start_B") = nb::none(),
           nb::arg("magnitude") = nb::none(), nb::arg("dtype") = nb::none(),
           nb::sig("def __init__(self, module: str, A: typing.Any, B: typing.Any, scale: float, *, start_A: typing.Any "
                   "| None = None, "
                   "start_B: typing.Any | None = None, magnitude: typing.Any | None = None, dtype: str | None = None) "
                   "-> None"))
      .def_ro("module", &adapter_record::module)
      .def_ro("scale", &adapter_record::scale)
      .def_prop_ro("rank", &adapter_record::rank)
      .def_prop_ro("dtype", [](adapter_record const& r) { return name_of(r.type); })
      .def_prop_ro(
          "layer", [](adapter_record const& r) { return layer_text(r.layer); }, "What W is the weight of.")
      .def_prop_ro("A", &member<&adapter_record::a>,
                   nb::for_getter(nb::sig("def A(self) -> numpy.typing.NDArray[numpy.float32]")), "r x in.")
      .def_prop_ro("B", &member<&adapter_record::b>,
                   nb::for_getter(nb::sig("def B(self) -> numpy.typing.NDArray[numpy.float32]")), "out x r.")
      .def_prop_ro("start_A", &member<&adapter_record::start_a>,
                   nb::for_getter(nb::sig("def start_A(self) -> numpy.typing.NDArray[numpy.float32] | None")))
      .def_prop_ro("start_B", &member<&adapter_record::start_b>,
                   nb::for_getter(nb::sig("def start_B(self) -> numpy.typing.NDArray[numpy.float32] | None")))
      .def_prop_ro("magnitude", &member<&adapter_record::magnitude>,
                   nb::for_getter(nb::sig("def magnitude(self) -> numpy.typing.NDArray[numpy.float32] | None")),
                   "DoRA's, out x 1.")
      .def_prop_ro("E", &member<&adapter_record::e>,
                   nb::for_getter(nb::sig("def E(self) -> numpy.typing.NDArray[numpy.float32] | None")),
                   "AdaLoRA's, r x 1.")
      .def(
          "widened", [](adapter_record const& r) { return widened(r); },
          "The same change of W without a start: rank 2r, [A; start_A] and [B, -start_B].");
}

}  // namespace

void add_files(nb::module_& m) {
  define_record(m);
  m.def("save_peft", &save, nb::arg("folder"), nb::arg("records"), nb::arg("relative_to"), nb::arg("base"),
        nb::arg("base_name"), nb::arg("task_type"), nb::arg("rslora"), nb::arg("portable"), nb::arg("dropout"),
        nb::arg("fan_in_fan_out"), nb::arg("module_prefix"), nb::arg("overwrite"));
  m.def("load_peft", &load, nb::arg("folder"), nb::arg("relative_to"),
        nb::sig("def load_peft(folder: str, relative_to: str | None) -> tuple[list[Record], dict[str, typing.Any]]"));
  m.def("merge_peft", &merge, nb::arg("base"), nb::arg("out"), nb::arg("adapters"), nb::arg("relative_to"),
        nb::arg("sign"), nb::arg("fan_in_fan_out"), nb::arg("overwrite"));
  m.def("merge", &merge_array, nb::arg("W").none(), nb::arg("A").none(), nb::arg("B").none(), nb::arg("factor"),
        nb::sig("def merge(W: typing.Any, A: typing.Any, B: typing.Any, factor: float) -> None"));
  m.def("save_gguf", &gguf, nb::arg("path"), nb::arg("records"), nb::arg("architecture"), nb::arg("heads"),
        nb::arg("kv_heads"), nb::arg("name"), nb::arg("dtype"), nb::arg("overwrite"));
  m.def(
      "combine",
      [](std::vector<std::pair<std::vector<adapter_record>, double>> const& adapters) {
        nb::gil_scoped_release const others_run;
        std::vector<weighted_records> all;
        for (auto const& [records, weight] : adapters) all.push_back({records, weight});
        return combined(all);
      },
      nb::arg("adapters"), nb::sig("def combine(adapters: list[tuple[list[Record], float]]) -> list[Record]"));
}

}  // namespace python

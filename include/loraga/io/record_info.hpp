#pragma once
#include <loraga/io/adapter_record.hpp>
#include <loraga/io/quantised.hpp>
#include <map>

// What is known of a record without its numbers, and whether a base model has such a layer.

namespace loraga {

/// What the files say of a record beside its numbers: known before there are any.
struct record_info {
  std::string module;  ///< the layer's dotted name
  double scale = 1;
  index_t out = 0, in = 0, rank = 0;
  index_t start_rank = 0;             ///< of A0 and B0; 0 where it is not anchored
  dtype type = dtype::F32;            ///< of A, B and E
  layer_kind layer = {};              ///< what W is the weight of
  bool magnitude = false, e = false;  ///< whether it holds them

  bool operator==(record_info const&) const = default;
};
/// What is known of a record that is there.
inline record_info info_of(adapter_record const& r) {
  return {r.module,       r.scale, r.b.rows, r.a.cols,          r.rank(),
          r.start_a.rows, r.type,  r.layer,  r.has_magnitude(), r.has_e()};
}

/// A parameter that an adapter holds whole beside its factors: a head that was trained, an embedding that was resized.
struct whole_parameter {
  std::string name;        ///< in the model: "lm_head.weight"
  stored_tensor tensor;    ///< in somebody's memory: the adapter's file's
  bool base_copy = false;  ///< of a layer that has factors as well, which are added to it
};

/// The name of a module's weight in the base's files.  errors  value_error if the module lacks the prefix
inline std::string weight_name(std::string const& module, std::string const& prefix) {
  if (!module.starts_with(prefix))
    raise<value_error>("weight_name", "module", "'" + module + "'", "one that starts with '" + prefix + "'");
  return module.substr(prefix.size()) + ".weight";
}

/// Whether a base's file holds the transposed of the record's W: an embedding's vocabulary x dim, or a linear layer's
/// in x out.
inline bool is_stored_transposed(layer_kind const& layer, stored_tensor const& w, bool in_by_out) {
  return layer.form == layer_form::embedding || (layer.form == layer_form::linear && in_by_out && w.shape.size() == 2);
}

/// Where a base's files have a module's weight, and how it lies there.
struct weight_place {
  std::string weight;      ///< the tensor's name
  bool in_by_out = false;  ///< a linear layer's is in x out (GPT-2's Conv1D)
};

/// Where a module's weight is: as `places` of the options say, else by their module_prefix and fan_in_fan_out.
/// errors  value_error as weight_name
template <class Options>
weight_place place_of(Options const& o, std::string const& module) {
  if (auto const known = o.places.find(module); known != o.places.end()) return known->second;
  return {weight_name(module, o.module_prefix), o.fan_in_fan_out};
}

/// Throws unless a weight has the record's shape. A record with E may say "linear" of a convolution, whose A is a
/// matrix in AdaLoRA's files.
/// errors  shape_error naming `where`
inline void check_shape(record_info const& r, stored_tensor const& w, bool in_by_out, std::string const& where) {
  auto const& layer = r.layer;
  index_t const kernel = layer.kernel_height * layer.kernel_width;
  std::vector<index_t> shape{r.out, r.in};
  if (layer.form == layer_form::convolution) shape = {r.out, r.in / kernel, layer.kernel_height, layer.kernel_width};
  else if (is_stored_transposed(layer, w, in_by_out)) shape = {r.in, r.out};
  bool const as_matrix = r.e && layer.form == layer_form::linear && w.shape.size() == 4;
  if (as_matrix ? w.rows() == r.out && w.cols() == r.in : w.shape == shape) return;
  raise<shape_error>(where, "adapter", shape_text(r.out, r.in) + " of " + layer_text(layer),
                     "that of the base's " + shape_text(w.shape) + (in_by_out ? " (in x out)" : ""));
}

/// Throws unless the base has a weight of the record's shape at that place.
/// errors  value_error naming the module, and saying so where the weight is quantised; shape_error
inline void check_against_base(record_info const& r, safetensors_model const& base, weight_place const& place,
                               std::string_view function) {
  std::string const where = std::string(function) + "(" + r.module + ")";
  if (auto const form = quantised_form(base, place.weight); !form.empty())
    raise<value_error>(where, "the base's weight", "quantised: " + form, full_precision_advice);
  if (!base.contains(place.weight))
    raise<value_error>(where, "module", "unknown: no '" + place.weight + "' in " + base.path().string(),
                       "a module of the base");
  check_shape(r, base[place.weight], place.in_by_out, where);
}

}  // namespace loraga

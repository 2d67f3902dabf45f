#pragma once
#include <loraga/io/adapter_record.hpp>
#include <loraga/io/model.hpp>

// What is known of a record without its numbers, and whether a base model has such a layer.

namespace loraga {

/// What the files say of a record beside its numbers: known before there are any.
struct record_info {
  std::string module;
  double scale = 1;
  index_t out = 0, in = 0, rank = 0;
  index_t start_rank = 0;  ///< of A0 and B0; 0 where it is not anchored
  dtype type = dtype::F32;
  layer_kind layer = {};
  bool magnitude = false, e = false;  ///< whether it holds them

  bool operator==(record_info const&) const = default;
};
inline record_info info_of(adapter_record const& r) {
  return {r.module,       r.scale, r.b.rows, r.a.cols,          r.rank(),
          r.start_a.rows, r.type,  r.layer,  r.has_magnitude(), r.has_e()};
}

/// The name of a module's weight in the base's files.  errors  value_error if the module lacks the prefix
inline std::string weight_name(std::string const& module, std::string const& prefix) {
  if (!module.starts_with(prefix))
    raise<value_error>("weight_name", "module", "'" + module + "'", "one that starts with '" + prefix + "'");
  return module.substr(prefix.size()) + ".weight";
}

/// Whether a base's file holds the transpose of the record's W: an embedding's vocabulary x dim, and with
/// fan_in_fan_out a linear layer's in x out.
inline bool is_stored_transposed(layer_kind const& layer, stored_tensor const& w, bool fan_in_fan_out) {
  return layer.form == layer_form::embedding ||
         (layer.form == layer_form::linear && fan_in_fan_out && w.shape.size() == 2);
}

/// Throws unless the base has a weight of the record's shape for its module (in x out with fan_in_fan_out).
/// A record with E may say "linear" of a convolution, whose A is a matrix in AdaLoRA's files.
/// errors  value_error naming the module; shape_error
inline void check_against_base(record_info const& r, safetensors_model const& base, std::string const& prefix,
                               bool fan_in_fan_out, std::string_view function) {
  auto const name = weight_name(r.module, prefix);
  std::string const where = std::string(function) + "(" + r.module + ")";
  if (!base.contains(name))
    raise<value_error>(where, "module", "unknown: no '" + name + "' in " + base.path().string(),
                       "a module of the base");
  auto const w = base[name];
  auto const& layer = r.layer;
  index_t const kernel = layer.kernel_height * layer.kernel_width;
  std::vector<index_t> shape{r.out, r.in};
  if (layer.form == layer_form::convolution) shape = {r.out, r.in / kernel, layer.kernel_height, layer.kernel_width};
  else if (is_stored_transposed(layer, w, fan_in_fan_out)) shape = {r.in, r.out};
  bool const as_matrix = r.e && layer.form == layer_form::linear && w.shape.size() == 4;
  if (as_matrix ? w.rows() == r.out && w.cols() == r.in : w.shape == shape) return;
  raise<shape_error>(where, "adapter", shape_text(r.out, r.in) + " of " + layer_text(layer),
                     "that of the base's " + shape_text(w.shape) + (fan_in_fan_out ? " (in x out)" : ""));
}
inline void check_against_base(adapter_record const& r, safetensors_model const& base, std::string const& prefix,
                               bool fan_in_fan_out, std::string_view function) {
  check_against_base(info_of(r), base, prefix, fan_in_fan_out, function);
}

}  // namespace loraga

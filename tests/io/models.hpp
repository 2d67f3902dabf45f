#pragma once
#include <loraga/io/model.hpp>
#include <loraga/io/safetensors_writer.hpp>

#include "../support/folder.hpp"
#include "../support/host.hpp"

namespace test {

using named_weights = std::vector<std::pair<std::string, host>>;

/// A safetensors file of row-major matrices.
inline void write_model(std::filesystem::path const& path, named_weights const& weights,
                        loraga::dtype type = loraga::dtype::F32) {
  std::vector<loraga::tensor_spec> specs;
  for (auto const& [name, w] : weights) specs.push_back({name, type, {w.rows, w.cols}});
  loraga::safetensors_writer out(path, specs, {{"format", "pt"}});
  for (auto const& [name, w] : weights)
    loraga::with_float_type(type, name, "dtype", [&, &name = name, &w = w]<class T>(T) {
      std::vector<T> values;
      for (double const x : w.data) values.push_back(static_cast<T>(static_cast<loraga::compute_t<T>>(x)));
      out.write(name, loraga::col_major(std::as_const(values).data(), w.rows, w.cols));
    });
  out.commit();
}
/// The same as a folder's model.safetensors, with a config.json.
inline void write_model_folder(std::filesystem::path const& to, named_weights const& weights,
                               std::string const& config = "{}") {
  std::filesystem::create_directories(to);
  write_model(to / "model.safetensors", weights);
  if (!config.empty()) write_file(to / "config.json", config);
}
inline host read(std::filesystem::path const& model, std::string const& name) {
  loraga::safetensors_model const m(model);
  host h(m[name].rows(), m[name].cols());
  loraga::read_matrix(m[name], loraga::col_major(h.data.data(), h.rows, h.cols));
  return h;
}

}  // namespace test

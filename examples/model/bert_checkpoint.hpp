#pragma once
#include <loraga/io/model.hpp>
#include <set>

#include "text_encoder.hpp"
#include "weights.hpp"

namespace model {

/// Sizes of the encoder in a folder, from its config.json.
/// errors  file_error; format_error naming the entry for a model of another kind
inline text_encoder_shape read_bert_shape(std::filesystem::path const& folder) {
  auto const path = folder / "config.json";
  std::string const where = path.string();
  auto const json = loraga::parse_json(loraga::read_text(path), where, 8);
  auto const entry = [&](char const* key) {
    if (!json.is_object() || !json.contains(key))
      loraga::raise<loraga::format_error>(where, key, "missing", "a BERT encoder's");
    return json[key];
  };
  auto const must_be = [&](char const* key, char const* expected) {
    if (entry(key) != expected)
      loraga::raise<loraga::format_error>(where, key, entry(key).dump().substr(0, 80), expected);
  };
  must_be("model_type", "bert");
  must_be("hidden_act", "gelu");
  if (json.contains("position_embedding_type")) must_be("position_embedding_type", "absolute");
  auto const size = [&](char const* key) {
    auto const value = entry(key);
    if (!value.is_number_unsigned() || value == 0 || value > 10'000'000)
      loraga::raise<loraga::format_error>(where, key, value.dump().substr(0, 80), "a size");
    return value.template get<index_t>();
  };
  text_encoder_shape s;
  s.vocabulary = size("vocab_size");
  s.positions = size("max_position_embeddings");
  s.types = size("type_vocab_size");
  s.width = size("hidden_size");
  s.layers = size("num_hidden_layers");
  s.heads = size("num_attention_heads");
  s.hidden = size("intermediate_size");
  if (s.width % s.heads != 0)
    loraga::raise<loraga::format_error>(where, "hidden_size", std::to_string(s.width),
                                        "a multiple of the " + std::to_string(s.heads) + " heads");
  auto const epsilon = entry("layer_norm_eps");
  if (!epsilon.is_number()) loraga::raise<loraga::format_error>(where, "layer_norm_eps", "no number", "a number");
  s.epsilon = epsilon.template get<float>();
  return s;
}

/// How a checkpoint calls a tensor of the model (gain and shift of a LayerNorm are weight and bias there).
inline std::string checkpoint_name(std::string name) {
  auto const end = [&](std::string_view old, std::string_view now) {
    if (name.ends_with(old)) name.replace(name.size() - old.size(), old.size(), now);
  };
  end(".gain", ".weight");
  end(".shift", ".bias");
  return name;
}

/// All tensors of the model but the head, from a file or folder of safetensors. What a mean-pooling encoder does not
/// use may be there: the pooler and position_ids.
/// errors  file_error; format_error naming the tensor that is missing, unknown, of another shape, or not finite
template <class B>
weights read_bert(std::filesystem::path const& path, text_encoder<B>& m) {
  loraga::safetensors_model const file(path);
  std::set<std::string> expected{"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"};
  weights all;
  for (auto const* t : m.tensors()) {
    if (t == &m.head.weight || t == &m.head.bias) continue;
    auto const name = checkpoint_name(t->name);
    expected.insert(name);
    auto const stored = file[name];
    // a matrix lies there row by row, which is here column by column
    index_t const rows = t->value.rows(), cols = t->value.cols();
    std::vector<index_t> const shape =
        cols == 1 && stored.shape.size() == 1 ? std::vector{rows} : std::vector{cols, rows};
    if (stored.shape != shape)
      loraga::raise<loraga::format_error>(stored.label, "shape", loraga::shape_text(stored.shape),
                                          loraga::shape_text(shape));
    all.emplace_back(static_cast<std::size_t>(rows * cols));
    loraga::read_matrix(stored, loraga::row_major(all.back().data(), stored.rows(), stored.cols()));
    for (float const x : all.back())
      if (!loraga::is_finite(static_cast<double>(x)))
        loraga::raise<loraga::format_error>(stored.label, "value", "not finite", "numbers");
  }
  for (auto const& name : file.names())
    if (!expected.contains(name))
      loraga::raise<loraga::format_error>(
          file.path().string(), "'" + name + "'", "unknown",
          "a tensor of a BERT encoder of " + std::to_string(m.shape.layers) + " layers");
  return all;
}

}  // namespace model

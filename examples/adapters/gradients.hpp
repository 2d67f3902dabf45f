#pragma once
#include <loraga/gradient/dense.hpp>

#include "model_files.hpp"
#include "targets.hpp"

namespace adapters {

/// A file of gradients holds for a module M of the base either
///   M.weight              the mean gradient dW, in the layout of the base's weight, or
///   M.dY and M.X          what went back into and forth into the layer: tokens x out and tokens x in; or
///   M.dY.0, M.X.0, ...    the same for several micro-batches, which count alike.
/// M is the name in the base's files, or the module's. M alone and M.weight.grad are dW, too, and what wrappers put
/// into names (module., _orig_mod., base_model.model., base_layer) is looked through. Leading dimensions (batch x
/// sequence x features) are tokens.
struct gradient_source {
  std::string whole;                                       ///< the tensor dW, or
  std::vector<std::pair<std::string, std::string>> pairs;  ///< dY and X
  bool empty() const { return whole.empty() && pairs.empty(); }
  std::size_t batches() const { return whole.empty() ? pairs.size() : 1; }
};

/// A tensor whose last dimension counts features and whose others count tokens, as a matrix.
inline stored_tensor tokens_by_features(stored_tensor t) {
  index_t const features = t.shape.empty() ? 1 : t.shape.back();
  t.shape = {features == 0 ? 0 : element_count(t.shape, t.label) / features, features};
  return t;
}

/// Gradients on disk, by the names that stand in the conventions above.
class gradient_files {
  safetensors_model files_;
  std::map<std::string, std::string, std::less<>> names_;  // as the conventions have them -> in the files

  static std::string plain(std::string const& name) {
    auto text = format::unwrapped(name);
    if (text.starts_with(format::peft_prefix)) text.erase(0, format::peft_prefix.size());
    text = format::unwrapped(text);
    if (auto const at = text.rfind(".base_layer."); at != text.npos) text.erase(at, 11);
    if (text.ends_with(".grad")) text.erase(text.size() - 5);
    auto const words = format::split_words(text);
    auto const is = [&](std::size_t from_end, auto... known) {
      return words.size() > from_end && ((words[words.size() - 1 - from_end] == known) || ...);
    };
    bool const of_batch = (is(0, "dY", "X") || is(1, "dY", "X"));
    return of_batch || is(0, "weight", "bias") ? text : text + ".weight";
  }

 public:
  /// errors  format_error for two tensors that mean the same
  explicit gradient_files(std::filesystem::path const& path) : files_(path) {
    for (auto const& name : files_.names()) {
      auto const [p, fresh] = names_.emplace(plain(name), name);
      if (!fresh)
        raise<format_error>(path.string(), "'" + name + "'", "there as '" + p->second + "', too", "each gradient once");
    }
  }
  bool contains(std::string_view name) const { return names_.find(name) != names_.end(); }
  /// By its name in the conventions.
  stored_tensor operator[](std::string_view name) const {
    auto const p = names_.find(name);
    return files_[p == names_.end() ? name : std::string_view(p->second)];
  }
  void forget(std::string_view name) const {
    auto const t = (*this)[name];
    files_.owner(names_.find(name)->second).forget(t);
  }
  std::string path() const { return files_.path().string(); }
  /// Some names, for a message.
  std::string examples() const {
    std::string list;
    for (auto p = names_.begin(); p != names_.end() && list.size() < 150; ++p)
      list += (list.empty() ? "'" : ", '") + p->second + "'";
    return list;
  }
};

/// Looks up where a layer's gradient is; tensors are looked at by name and shape alone. Empty if there is none.
/// errors  format_error, shape_error
inline gradient_source find_gradient(gradient_files const& files, target const& t) {
  std::vector<gradient_source> found;
  auto const need = [&](std::string const& name, index_t features) {
    auto const x = tokens_by_features(files[name]);
    if (x.cols() != features || x.rows() == 0)
      raise<shape_error>(x.label, "shape", shape_text(files[name].shape), "tokens x " + std::to_string(features));
    with_float_type(x.type, x.label, "dtype", [](auto) {});
    return x.rows();
  };
  for (auto const& name : std::set<std::string>{t.name_in_base(), t.module}) {
    gradient_source from;
    auto const pair = [&](std::string const& number) {
      bool const dy = files.contains(name + ".dY" + number), x = files.contains(name + ".X" + number);
      if (!dy && !x) return false;
      if (t.form == layer_form::embedding)
        raise<format_error>(files.path(), "gradient of " + t.module, "dY and X", "M.weight: an embedding has no X");
      from.pairs.emplace_back(name + ".dY" + number, name + ".X" + number);
      if (need(from.pairs.back().first, t.out) != need(from.pairs.back().second, t.in))
        raise<shape_error>(files.path(), from.pairs.back().first, "of another number of tokens",
                           "that of " + from.pairs.back().second);
      return true;
    };
    if (files.contains(name + ".weight")) found.push_back({name + ".weight", {}});
    if (pair("")) found.push_back(std::exchange(from, {}));
    for (int i = 0; pair("." + std::to_string(i)); ++i) continue;
    if (!from.empty()) found.push_back(from);
  }
  if (found.empty()) return {};
  if (found.size() != 1)
    raise<format_error>(files.path(), "gradient of " + t.module, "there in several forms",
                        "one of .weight, .dY and .X, .dY.0 ...");
  if (auto const& whole = found[0].whole; !whole.empty()) {
    auto const g = files[whole];
    std::vector<index_t> const shape = t.is_transposed() ? std::vector{t.in, t.out} : std::vector{t.out, t.in};
    if (g.shape != shape) raise<shape_error>(g.label, "shape", shape_text(g.shape), shape_text(shape));
    with_float_type(g.type, g.label, "dtype", [](auto) {});
  }
  return found[0];
}

/// The mean gradient, dense: one layer at a time that is cheap, exact, and tells the coverage.
template <Backend B>
dense_gradient<B> mean_gradient(B& be, gradient_files const& files, target const& t, gradient_source const& from) {
  dense_gradient<B> g(be, t.out, t.in);
  matrix<float, B> memory, more;
  if (auto const& whole = from.whole; !whole.empty()) {
    auto const dw = float_view(be, files[whole], memory);
    g.add(be, t.is_transposed() ? dw.transposed() : dw);
    files.forget(whole);
  }
  for (auto const& [dy, x] : from.pairs) {
    g.add_outer(be, float_view(be, tokens_by_features(files[dy]), memory).transposed(),
                float_view(be, tokens_by_features(files[x]), more).transposed());
    for (auto const& name : {dy, x}) files.forget(name);
  }
  return g;
}

}  // namespace adapters

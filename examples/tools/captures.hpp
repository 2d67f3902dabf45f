#pragma once
#include <loraga/gradient/input_statistics.hpp>

#include "model_files.hpp"
#include "targets.hpp"

namespace tools {

/// What was captured of a model, as files hold it: gradients of a module M of the base, one of
///   M.weight              the mean gradient dW, in the layout of the base's weight, or
///   M.dY and M.X          what went back into and forth into the layer: tokens x out and tokens x in; or
///   M.dY.0, M.X.0, ...    the same for several micro-batches, which count alike;
/// and inputs, M.X or M.X.0 ..., beside which dY is not looked at.
/// M is the name in the base's files, or the module's. M alone and M.weight.grad are dW, too, and what wrappers put
/// into names (module., _orig_mod., base_model.model., base_layer) is looked through. Leading dimensions (batch x
/// sequence x features) are tokens.
struct capture {
  std::string whole;                                       ///< the tensor dW, or
  std::vector<std::pair<std::string, std::string>> pairs;  ///< dY (none, of inputs) and X
  bool empty() const { return whole.empty() && pairs.empty(); }
  std::size_t batches() const { return whole.empty() ? pairs.size() : 1; }
};

/// A tensor whose last dimension counts features and whose others count tokens, as a matrix.
inline stored_tensor tokens_by_features(stored_tensor t) {
  index_t const features = t.shape.empty() ? 1 : t.shape.back();
  t.shape = {features == 0 ? 0 : element_count(t.shape, t.label) / features, features};
  return t;
}

/// Captures on disk, by the names that stand in the conventions above.
class captured_files {
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
  explicit captured_files(std::filesystem::path const& path) : files_(path) {
    for (auto const& name : files_.names()) {
      auto const [p, fresh] = names_.emplace(plain(name), name);
      if (!fresh)
        raise<format_error>(path.string(), "'" + name + "'", "there as '" + p->second + "', too", "each tensor once");
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

/// Throws unless it is tokens x features; how many tokens.
inline index_t require_tokens(captured_files const& files, std::string const& name, index_t features) {
  auto const x = tokens_by_features(files[name]);
  if (x.cols() != features || x.rows() == 0)
    raise<shape_error>(x.label, "shape", shape_text(files[name].shape), "tokens x " + std::to_string(features));
  with_float_type(x.type, x.label, "dtype", [](auto) {});
  return x.rows();
}

/// Looks up where a layer's gradient is; tensors are looked at by name and shape alone. Empty if there is none.
/// errors  format_error, shape_error
inline capture find_gradient(captured_files const& files, target const& t) {
  std::vector<capture> found;
  for (auto const& name : std::set<std::string>{t.name_in_base(), t.module}) {
    capture from;
    auto const pair = [&](std::string const& number) {
      bool const dy = files.contains(name + ".dY" + number), x = files.contains(name + ".X" + number);
      if (!dy && !x) return false;
      if (t.form == layer_form::embedding)
        raise<format_error>(files.path(), "gradient of " + t.module, "dY and X", "M.weight: an embedding has no X");
      from.pairs.emplace_back(name + ".dY" + number, name + ".X" + number);
      auto const& [back, forth] = from.pairs.back();
      if (require_tokens(files, back, t.out) != require_tokens(files, forth, t.in))
        raise<shape_error>(files.path(), back, "of another number of tokens", "that of " + forth);
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

/// The same of a layer's inputs.
/// errors  format_error, also for an embedding, whose inputs are no numbers; shape_error
inline capture find_inputs(captured_files const& files, target const& t) {
  if (t.form == layer_form::embedding)
    raise<format_error>(files.path(), "inputs of " + t.module, "those of an embedding, which are no numbers",
                        "linear layers alone (--exclude leaves modules out)");
  std::vector<capture> found;
  for (auto const& name : std::set<std::string>{t.name_in_base(), t.module}) {
    capture from;
    auto const one = [&](std::string const& x) {
      if (!files.contains(x)) return false;
      require_tokens(files, x, t.in);
      from.pairs.emplace_back("", x);
      return true;
    };
    if (one(name + ".X")) found.push_back(std::exchange(from, {}));
    for (int i = 0; one(name + ".X." + std::to_string(i)); ++i) continue;
    if (!from.empty()) found.push_back(from);
  }
  if (found.size() > 1)
    raise<format_error>(files.path(), "inputs of " + t.module, "there in several forms", "one of .X and .X.0 ...");
  return found.empty() ? capture{} : found[0];
}

/// The mean gradient, dense: one layer at a time that is cheap, exact, and tells the coverage. G is dense_gradient, or
/// sign_gradient.
template <class G, Backend B>
G mean_gradient(B& be, captured_files const& files, target const& t, capture const& from) {
  G g(be, t.out, t.in);
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

/// Mean and scatter of a layer's inputs.
template <Backend B>
input_statistics<B> statistics(B& be, captured_files const& files, target const& t, capture const& from,
                               input_options options = {}) {
  input_statistics<B> inputs(be, t.in, options);
  matrix<float, B> memory;
  for (auto const& [none, x] : from.pairs) {
    inputs.add(be, float_view(be, tokens_by_features(files[x]), memory).transposed());
    files.forget(x);
  }
  return inputs;
}

}  // namespace tools

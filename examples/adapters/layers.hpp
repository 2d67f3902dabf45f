#pragma once
#include <loraga/gradient/dense.hpp>
#include <loraga/io/module_selection.hpp>

#include "model_files.hpp"

namespace adapters {

/// Where a layer's mean gradient comes from. For a module M of the base, a file of gradients holds either
///   M.weight              the mean gradient dW, in the layout of the base's weight, or
///   M.dY and M.X          what went back into and forth into the layer: tokens x out and tokens x in; or
///   M.dY.0, M.X.0, ...    the same for several micro-batches, which count alike.
/// M is the name in the base's files, or the module's. Leading dimensions (batch x sequence x features) are tokens.
struct gradient_source {
  std::string whole;                                       ///< the tensor dW, or
  std::vector<std::pair<std::string, std::string>> pairs;  ///< dY and X
  bool empty() const { return whole.empty() && pairs.empty(); }
  std::size_t batches() const { return whole.empty() ? pairs.size() : 1; }
};

/// A linear layer of the base that gets an adapter.
struct target {
  std::string module, weight;  ///< its name, and that of its weight in the base's files
  index_t out = 0, in = 0;
  std::uint64_t number = 0;  ///< among the targets: separates their random numbers
  gradient_source gradient = {};
};

/// What is wrong with some layers, thrown together.
class layer_problems {
  std::vector<std::string> found_;

 public:
  void add(std::string const& module, std::string const& what) { found_.push_back(module + ": " + what); }
  template <class E>
  void raise_any() const {
    if (found_.empty()) return;
    std::string text = std::to_string(found_.size()) + (found_.size() == 1 ? " layer" : " layers") +
                       " cannot be started (--exclude leaves modules out):";
    for (std::size_t i = 0; i < std::min<std::size_t>(found_.size(), 20); ++i) text += "\n  " + found_[i];
    if (found_.size() > 20) text += "\n  and " + std::to_string(found_.size() - 20) + " more";
    throw E(text);
  }
};

/// A name to sort by: numbers by their size.
inline std::string sort_key(std::string const& name) {
  std::string key;
  for (std::size_t i = 0; i < name.size();) {
    std::size_t const end = std::min(name.find_first_not_of("0123456789", i), name.size());
    if (end > i) key += std::string(end - i < 12 ? 12 - (end - i) : 0, '0') + name.substr(i, end - i);
    else key += name[i];
    i = std::max(end, i + 1);
  }
  return key;
}

/// The base's matrices that the selection means, in the order of their layers.
/// errors  value_error if there are none; shape_error for convolutions and other things that are no matrices
inline std::vector<target> find_targets(safetensors_model const& base, module_selection const& selection,
                                        std::string const& prefix, bool fan_in_fan_out) {
  std::vector<target> targets;
  std::string words;
  for (auto const& name : base.names()) {
    if (!name.ends_with(".weight") || base[name].shape.size() < 2) continue;
    auto const module = prefix + name.substr(0, name.size() - 7);
    if (words.size() < 300) words += "\n  " + module;
    if (!selection.selects(module)) continue;
    auto const w = base[name];
    if (w.shape.size() > 2)
      raise<shape_error>("targets", module, shape_text(w.shape), "a linear layer's two sizes (see --exclude)");
    targets.push_back({module, name, fan_in_fan_out ? w.cols() : w.rows(), fan_in_fan_out ? w.rows() : w.cols()});
  }
  if (targets.empty())
    throw value_error("no module of " + base.path().string() + " is selected; its matrices begin with" + words);
  std::sort(targets.begin(), targets.end(),
            [](auto const& a, auto const& b) { return sort_key(a.module) < sort_key(b.module); });
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].number = i;
  return targets;
}

/// A tensor whose last dimension counts features and whose others count tokens, as a matrix.
inline stored_tensor tokens_by_features(stored_tensor t) {
  index_t const features = t.shape.empty() ? 1 : t.shape.back();
  t.shape = {features == 0 ? 0 : element_count(t.shape, t.label) / features, features};
  return t;
}

/// Looks up where a layer's gradient is; tensors are looked at by name and shape alone.
/// errors  format_error, shape_error
inline gradient_source find_gradient(safetensors_model const& files, target const& t, bool fan_in_fan_out) {
  std::vector<gradient_source> found;
  auto const need = [&](std::string const& name, index_t features) {
    auto const x = tokens_by_features(files[name]);
    if (x.cols() != features || x.rows() == 0)
      raise<shape_error>(x.label, "shape", shape_text(files[name].shape), "tokens x " + std::to_string(features));
    with_float_type(x.type, x.label, "dtype", [](auto) {});
    return x.rows();
  };
  std::set<std::string> const names{t.weight.substr(0, t.weight.size() - 7), t.module};
  for (auto const& name : names) {
    gradient_source from;
    auto const pair = [&](std::string const& number) {
      bool const dy = files.contains(name + ".dY" + number), x = files.contains(name + ".X" + number);
      if (!dy && !x) return false;
      from.pairs.emplace_back(name + ".dY" + number, name + ".X" + number);
      if (need(from.pairs.back().first, t.out) != need(from.pairs.back().second, t.in))
        raise<shape_error>(files.path().string(), from.pairs.back().first, "of another number of tokens",
                           "that of " + from.pairs.back().second);
      return true;
    };
    if (files.contains(name + ".weight")) found.push_back({name + ".weight", {}});
    if (pair("")) found.push_back(std::exchange(from, {}));
    for (int i = 0; pair("." + std::to_string(i)); ++i) continue;
    if (!from.empty()) found.push_back(from);
  }
  if (found.size() != 1)
    raise<format_error>(files.path().string(), "gradient of " + t.module,
                        found.empty() ? "missing" : "there in several forms", "one of .weight, .dY and .X, .dY.0 ...");
  if (auto const& whole = found[0].whole; !whole.empty()) {
    auto const g = files[whole];
    std::vector<index_t> const shape = fan_in_fan_out ? std::vector{t.in, t.out} : std::vector{t.out, t.in};
    if (g.shape != shape) raise<shape_error>(g.label, "shape", shape_text(g.shape), shape_text(shape));
    with_float_type(g.type, g.label, "dtype", [](auto) {});
  }
  return found[0];
}

/// The mean gradient, dense: one layer at a time that is cheap, exact, and tells the coverage.
template <Backend B>
dense_gradient<B> mean_gradient(B& be, safetensors_model const& files, target const& t, bool fan_in_fan_out) {
  dense_gradient<B> g(be, t.out, t.in);
  matrix<float, B> memory, more;
  if (auto const& whole = t.gradient.whole; !whole.empty()) {
    auto const dw = float_view(be, files[whole], memory);
    g.add(be, fan_in_fan_out ? dw.transposed() : dw);
    files.owner(whole).forget(files[whole]);
  }
  for (auto const& [dy, x] : t.gradient.pairs) {
    g.add_outer(be, float_view(be, tokens_by_features(files[dy]), memory).transposed(),
                float_view(be, tokens_by_features(files[x]), more).transposed());
    for (auto const& name : {dy, x}) files.owner(name).forget(files[name]);
  }
  return g;
}

}  // namespace adapters

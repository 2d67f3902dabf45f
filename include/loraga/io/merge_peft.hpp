#pragma once
#include <loraga/io/module_match.hpp>
#include <loraga/io/tied_weights.hpp>

// Adapters from PEFT's files into a model's: what the base calls its modules, how it stores them, what it ties, and
// what lies beside its weights.

namespace loraga {

/// An adapter, and how strongly it counts.
struct weighted_peft {
  peft_adapter adapter;  ///< as load_peft gives it
  double weight = 1;     ///< factor of its change
};

/// What merge_peft does where files leave it open.
struct peft_merge_options {
  /// How weights of linear layers lie in the base, if it is not to be found out: true for in x out (GPT-2's Conv1D).
  std::optional<bool> fan_in_fan_out = {};
  std::optional<tied_weights> tied = {};  ///< untie where adapters are merged, refuse where they are taken out
  overwrite may_replace = overwrite::no;
  std::function<void(index_t, index_t)> progress = {};  ///< as merge_options::progress
};

namespace format {

/// What write_changed_model is to do for some adapters.
class peft_merge {
  safetensors_model const& base_;
  base_facts facts_;
  double sign_;
  module_match match_;
  std::set<std::string> untrained_;  // among what is replaced

 public:
  std::vector<adapter_record> changes;
  merge_options options;
  config_edits edits;
  std::vector<std::string> notes;

  peft_merge(safetensors_model const& base, std::vector<weighted_peft> const& adapters, double sign,
             peft_merge_options const& o)
      : base_(base), facts_(base), sign_(sign) {
    options.may_replace = o.may_replace;
    options.progress = o.progress;
    match(adapters);
    for (auto const& one : adapters) {
      add_records(one, o.fan_in_fan_out);
      add_whole(one);
    }
    auto const how = o.tied.value_or(sign > 0 ? tied_weights::untie : tied_weights::refuse);
    if (auto note = settle_tied(base, facts_, how, untrained_, changes, options, edits); !note.empty())
      notes.push_back(std::move(note));
    note_unknown_tie();
    check_rows();
    if (auto const n = base.left_aside().size(); n > 0)
      notes.push_back(std::to_string(n) + " tensors that the base's index does not list are left out, as " +
                      base.left_aside()[0]);
  }

 private:
  static std::string weight_of(adapter_record const& r) { return r.module + ".weight"; }

  /// Heads need not be in a base: one that is tied has no tensor there, a new one is added.
  void match(std::vector<weighted_peft> const& adapters) {
    for (auto const& one : adapters) {
      std::vector<std::string> required, optional;
      for (auto const& r : one.adapter.records) {
        auto const name = weight_of(r);
        bool const head = !base_.contains(name) && is_tied_head(name, {r.b.rows, r.a.cols}, base_, facts_);
        (head ? optional : required).push_back(name);
      }
      std::set<std::string> const with_factors(required.begin(), required.end());
      for (auto const& w : one.adapter.whole)
        if (!with_factors.contains(w.name)) optional.push_back(w.name);
      auto const found = match_modules(base_, required, optional, facts_.model_types);
      for (auto const& [name, there] : found.names)
        if (match_.names.emplace(name, there).first->second != there)
          raise<value_error>("merge", "'" + name + "'", "'" + there + "' for one adapter and another for the next",
                             "one: merge one adapter after the other");
      match_.changes.insert(found.changes.begin(), found.changes.end());
    }
    for (auto const& [change, example] : match_.changes)
      notes.push_back("'" + change.from + "' in the adapter is '" + change.to + "' in the base, as for " + example);
  }
  std::string place_in_base(std::string const& name) const {
    auto const known = match_.names.find(name);
    return known == match_.names.end() ? name : known->second;
  }

  void add_records(weighted_peft const& one, std::optional<bool> layout) {
    for (auto r : one.adapter.records) {
      if (one.weight != 1 && r.has_magnitude())
        raise<state_error>("merge(" + r.module + ")", "adapter",
                           "a DoRA with a weight of " + std::to_string(one.weight),
                           "weight 1: it is no change of W that could count by a part");
      r.scale *= one.weight;
      weight_place place{place_in_base(weight_of(r))};
      bool const flag = one.adapter.config.fan_in_fan_out;
      if (base_.contains(place.weight))
        place.in_by_out = layout ? *layout && r.layer.form == layer_form::linear
                                 : is_in_by_out(info_of(r), base_[place.weight], flag, facts_);
      options.places[r.module] = std::move(place);
      changes.push_back(std::move(r));
    }
  }

  void add_whole(weighted_peft const& one) {
    for (auto const& w : one.adapter.whole) {
      std::string const where = "merge(" + w.name + ")";
      auto const name = place_in_base(w.name);
      if (auto const form = quantised_form(base_, name); !form.empty())
        raise<value_error>(where, "the base's weight", "quantised: " + form, full_precision_advice);
      if (is_base_copy(w, one.adapter.config) && has_bases_size(name, w.tensor)) {
        if (base_.contains(name) && base_[name].type == w.tensor.type && !same_tensor(base_[name], w.tensor))
          notes.push_back(name + " stays the base's, from which the adapter's copy differs");
        continue;
      }
      if (sign_ < 0)
        raise<state_error>(where, "adapter", "one that holds this layer whole",
                           "factors alone: what the base had instead is not in the adapter");
      if (one.weight != 1)
        raise<state_error>(where, "adapter",
                           "one that holds this layer whole, with a weight of " + std::to_string(one.weight),
                           "weight 1");
      auto const [p, fresh] = options.replaced.emplace(name, w.tensor);
      if (!fresh && !same_tensor(p->second, w.tensor))
        raise<value_error>(where, "adapters", "two that hold it whole, and not the same", "one, or the same in both");
      if (!is_trained(w, name, one.adapter.config)) untrained_.insert(name);
      if (!fresh) continue;
      if (base_.contains(name)) {
        check_whole(w.tensor, base_[name], where);
        notes.push_back("replaced: " + name + " " + shape_text(w.tensor.shape));
      } else {
        add_new(name, w.tensor, one.adapter.config, where);
      }
    }
  }
  /// PEFT saves a base's embedding beside its factors. Of the base's own size that says nothing new, and would undo
  /// what another adapter did.
  bool has_bases_size(std::string const& name, stored_tensor const& t) const {
    if (base_.contains(name)) return base_[name].shape == t.shape;
    auto const& sizes = facts_.vocabularies;
    return std::find(sizes.begin(), sizes.end(), t.rows()) != sizes.end();
  }
  /// Whether training changed it. PEFT also saves embeddings that were resized and no more: none of modules_to_save.
  bool is_trained(whole_parameter const& w, std::string const& name, peft_config const& c) const {
    if (is_base_copy(w, c)) return false;
    auto const listed = [&](auto const& word) { return ("." + w.name).find("." + word + ".") != std::string::npos; };
    return has_bases_size(name, w.tensor) || std::any_of(c.modules_to_save.begin(), c.modules_to_save.end(), listed);
  }
  /// A head that the base lacks. Within the base's own layers a name that it lacks is a mistake.
  void add_new(std::string const& name, stored_tensor const& t, peft_config const& c, std::string const& where) {
    auto const begins = [&](auto const& word) { return name.starts_with(word + "."); };
    bool const head = std::any_of(c.modules_to_save.begin(), c.modules_to_save.end(), begins);
    if (!head && !is_tied_head(name, {t.rows(), t.cols()}, base_, facts_))
      raise<value_error>(where, "'" + name + "'",
                         "not in " + base_.path().string() + ", and no head of modules_to_save",
                         "a tensor of the base, or --rename OLD=NEW for the leading words that differ");
    notes.push_back("added: " + name + " " + shape_text(t.shape));
    if (name == "classifier.weight" || name == "classifier.out_proj.weight" || name == "score.weight")
      notes.push_back("it has " + std::to_string(t.rows()) + " classes: load with num_labels=" +
                      std::to_string(t.rows()) + ", unless config.json has as many in id2label");
  }
  /// Rows may be more or fewer: words that were added to the vocabulary, classes of another task.
  static void check_whole(stored_tensor const& t, stored_tensor const& of_base, std::string const& where) {
    auto rows_aside = t.shape;
    if (!rows_aside.empty() && !of_base.shape.empty()) rows_aside[0] = of_base.shape[0];
    if (rows_aside != of_base.shape)
      raise<shape_error>(where, "shape", shape_text(t.shape), shape_text(of_base.shape) + " but for the rows");
  }

  void note_unknown_tie() {
    if (facts_.has_config) return;
    bool holds_head = false;
    std::string changed;
    for (auto const& name : base_.names()) holds_head = holds_head || is_head(name);
    for (auto const& r : changes)
      if (auto const name = place_of(options, r.module).weight; is_word_embedding(name)) changed = name;
    if (!holds_head && !changed.empty())
      notes.push_back("no config.json beside the base: if its head is tied to " + changed + ", it changes with it");
  }
  /// All that has a row, or a number, for each word must have as many.
  void check_rows() {
    std::map<std::string, std::pair<index_t, index_t>> rows;  // before and now
    index_t old = 0, now = 0;
    auto const add = [&](std::string const& name, index_t before, index_t after) {
      rows[name] = {before, after};
      if (before != after) old = before, now = after;
    };
    auto const after = [&](std::string const& name, index_t before) {
      auto const p = options.replaced.find(name);
      return p == options.replaced.end() ? before : p->second.rows();
    };
    for (auto const& name : base_.names())
      if (is_word_embedding(name) || (is_head(name) && base_[name].shape.size() == 2))
        add(name, base_[name].rows(), after(name, base_[name].rows()));
    if (old == now) return;
    for (auto const& name : base_.names()) {
      auto const numbers = [](stored_tensor const& t) { return element_count(t.shape, t.label); };
      if (!name.ends_with("bias") || numbers(base_[name]) != old) continue;
      auto const p = options.replaced.find(name);
      rows[name] = {old, p == options.replaced.end() ? old : numbers(p->second)};
    }
    for (auto const& [name, n] : rows)
      if (n.first == old && n.second != now)
        raise<value_error>("merge(" + name + ")", "rows",
                           std::to_string(n.second) + ", and others have " + std::to_string(now),
                           "as many for the vocabulary everywhere: an adapter that holds all of them");
    edits.old_rows = old;
    edits.new_rows = now;
    notes.push_back("vocab_size " + std::to_string(old) + " is now " + std::to_string(now));
  }
};

}  // namespace format

/// A base with adapters merged in, or with sign -1 taken out: its weights as write_changed_model writes them, and what
/// lies beside them. Layers that an adapter holds whole are copied, in the base's type; what the base lacks is added.
/// Modules are found where the base's names have other leading words (match_modules), config.json decides how weights
/// lie (is_in_by_out) and what is tied (tied_weights).
/// returns  sentences for the user: what was matched, replaced, added, untied, left out
/// errors  as write_changed_model, match_modules and is_in_by_out; value_error and state_error for whole layers that
///         cannot be, for a tie that cannot be opened, and for weights other than 1 of a DoRA or a whole layer.
///         All of them before anything is written
template <Backend B>
std::vector<std::string> merge_peft(B& be, safetensors_model const& base, std::filesystem::path const& to,
                                    std::vector<weighted_peft> const& adapters, double sign = 1,
                                    peft_merge_options const& how = {}) {
  format::peft_merge merge(base, adapters, sign, how);
  auto const config = to / "config.json";
  std::error_code unknown;
  if (merge.edits.any() && !base.is_single_file() && how.may_replace == overwrite::no &&
      std::filesystem::exists(config, unknown))
    raise_file_error("merge_peft", config, EEXIST);
  write_changed_model(be, base, to, widened(merge.changes), sign, merge.options);
  auto const left_out = copy_companions(base, to, how.may_replace, merge.edits);
  if (base.is_single_file() && merge.edits.any())
    merge.notes.push_back(
        "the new file's config.json must say it: " +
        std::string(merge.edits.untie ? "tie_word_embeddings false " : "") +
        (merge.edits.old_rows != merge.edits.new_rows ? "vocab_size " + std::to_string(merge.edits.new_rows) : ""));
  if (!left_out.empty()) {
    std::string list;
    for (auto const& name : left_out) list += (list.empty() ? "" : ", ") + name;
    merge.notes.push_back("not copied (other weights of the base): " + list);
  }
  return merge.notes;
}

}  // namespace loraga

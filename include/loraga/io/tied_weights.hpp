#pragma once
#include <loraga/io/base_facts.hpp>
#include <loraga/io/merge.hpp>
#include <loraga/io/model_companions.hpp>

// Models whose head is their embedding: one tensor for two modules, which an adapter may change apart.

namespace loraga {

/// What a merge makes of a tied head where an adapter changes it or the embedding, and not both alike.
enum class tied_weights {
  refuse,  ///< an error: the user decides
  untie,   ///< each gets a tensor of its own, and config.json says so: what the adapter was trained on
  share    ///< the one tensor gets both changes
};

namespace format {

inline bool is_head(std::string_view weight) {
  return ends_with_one_of(weight, {"lm_head.weight", "embed_out.weight", "lm_head.decoder.weight",
                                   "predictions.decoder.weight", "output_projection.weight"}) ||
         weight == "decoder.weight";
}
inline bool is_word_embedding(std::string_view weight) {
  std::string_view const module = weight.ends_with(".weight") ? weight.substr(0, weight.size() - 7) : "";
  auto const word = module.substr(module.rfind('.') + 1);
  for (auto const* name :
       {"embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings", "shared", "tokens_embed"})
    if (word == name) return true;
  return module == "backbone.embeddings";
}
/// What the head is called in a model that calls its embedding so; empty where that is not sure. A wrong name would be
/// a head that nobody loads.
inline std::string head_of(std::string const& embedding, base_facts const& facts) {
  auto const is = [&](std::initializer_list<char const*> names) {
    return std::any_of(names.begin(), names.end(), [&](char const* name) { return embedding == name; });
  };
  if (is({"language_model.model.embed_tokens.weight"})) return "language_model.lm_head.weight";
  if (is({"model.language_model.embed_tokens.weight"})) return "lm_head.weight";
  if (!facts.architectures.empty() && !facts.is_built_as({"ForCausalLM", "LMHeadModel"})) return "";
  if (is({"gpt_neox.embed_in.weight"})) return "embed_out.weight";
  bool const usual = is({"model.embed_tokens.weight", "model.decoder.embed_tokens.weight", "transformer.wte.weight",
                         "wte.weight", "transformer.word_embeddings.weight", "word_embeddings.weight",
                         "backbone.embeddings.weight", "transformer.tokens_embed.weight", "tokens_embed.weight"});
  return usual ? "lm_head.weight" : "";
}

/// Whether two records do the same to one vocabulary x dim tensor.
inline bool same_change(adapter_record const& a, adapter_record const& b) {
  if (a.layer == b.layer)
    return a.scale == b.scale && a.a.values == b.a.values && a.b.values == b.b.values && a.e.values == b.e.values &&
           a.magnitude.values == b.magnitude.values;
  auto const transposed = [](record_matrix const& x, record_matrix const& y) {
    if (x.rows != y.cols || x.cols != y.rows) return false;
    for (index_t i = 0; i < x.rows; ++i)
      for (index_t j = 0; j < x.cols; ++j)
        if (x.view()(i, j) != y.view()(j, i)) return false;
    return true;
  };
  return a.scale == b.scale && !a.has_magnitude() && !b.has_magnitude() && !a.has_e() && !b.has_e() &&
         transposed(a.a, b.b) && transposed(a.b, b.a);
}

}  // namespace format

/// The two tensors of a tied model: `head` need not be in its files, and is empty where its name is not known.
struct tied_pair {
  std::string embedding, head;  ///< tensor names
  bool several = false;  ///< more modules share the embedding (T5's, BART's): it cannot be given to the head alone
};

/// A tensor's rows and columns, by its name.
using touched_tensors = std::map<std::string, std::pair<index_t, index_t>>;

/// Whether a tensor that an adapter speaks of is a tied model's head. It is if it is called so, or if the base lacks it
/// and it has the shape of one.
inline bool is_tied_head(std::string const& name, std::pair<index_t, index_t> shape, safetensors_model const& base,
                         base_facts const& facts) {
  if (!facts.is_tied(base.contains(name))) return false;
  auto const& sizes = facts.vocabularies;
  return format::is_head(name) ||
         (!base.contains(name) && std::find(sizes.begin(), sizes.end(), shape.first) != sizes.end());
}

/// The tied pair that a merge touches, if it does.
/// errors  value_error where a head changes, and the embedding it is tied to is not known
inline std::optional<tied_pair> find_tied_pair(safetensors_model const& base, base_facts const& facts,
                                               touched_tensors const& touched) {
  tied_pair pair;
  std::vector<std::string> known;
  for (auto const& name : base.names()) {
    if (format::is_word_embedding(name)) known.push_back(name);
    if (format::is_head(name)) pair.head = name;
  }
  if (!facts.is_tied(!pair.head.empty())) return {};
  bool touches_head = false;
  auto const& sizes = facts.vocabularies;
  for (auto const& [name, shape] : touched) {
    bool const for_words =
        std::find(sizes.begin(), sizes.end(), base.contains(name) ? base[name].rows() : 0) != sizes.end();
    if (is_tied_head(name, shape, base, facts)) {
      pair.head = name;
      touches_head = true;
    } else if (std::find(known.begin(), known.end(), name) != known.end() ||
               (for_words && base[name].shape.size() == 2)) {
      pair.several = pair.several || !pair.embedding.empty();
      pair.embedding = name;
    }
  }
  if (pair.embedding.empty() && !touches_head) return {};
  if (pair.embedding.empty()) {
    if (known.empty())
      raise<value_error>("merge", pair.head, "tied to an embedding (tie_word_embeddings) whose name is not known",
                         "an adapter without it");
    pair.embedding = known[0];
  }
  pair.several = pair.several || known.size() > 1 || pair.embedding.ends_with("shared.weight");
  if (pair.head.empty()) pair.head = format::head_of(pair.embedding, facts);
  return pair;
}

/// What becomes of a tied pair, given what the adapters do to its tensors.
class tied_settlement {
  safetensors_model const& base_;
  std::vector<adapter_record>& changes_;
  merge_options& options_;
  tied_pair pair_;
  std::string what_;  // for messages

  std::vector<adapter_record const*> changes_of(std::string const& weight) const {
    std::vector<adapter_record const*> of;
    for (auto const& r : changes_)
      if (place_of(options_, r.module).weight == weight) of.push_back(&r);
    return of;
  }
  stored_tensor const* replaced(std::string const& name) const {
    auto const p = options_.replaced.find(name);
    return p == options_.replaced.end() ? nullptr : &p->second;
  }

 public:
  tied_settlement(safetensors_model const& base, std::vector<adapter_record>& changes, merge_options& options,
                  tied_pair pair)
      : base_(base), changes_(changes), options_(options), pair_(std::move(pair)) {}

  /// `untrained` names tensors among the replaced that no training changed: a base's that was resized, which both
  /// modules of the pair begin with.
  std::string settle(tied_weights how, std::set<std::string> const& untrained, config_edits& edits) {
    auto const &embedding = pair_.embedding, &head = pair_.head;
    auto const start = [&] {
      for (auto const* name : {&embedding, &head})
        if (untrained.contains(*name) && replaced(*name)) return *replaced(*name);
      return base_[embedding];
    }();
    auto const begins = [&](std::string const& name) {
      if (auto const* other = replaced(name)) return *other;
      return base_.contains(head) && name == head ? base_[head] : start;
    };
    auto const first = begins(embedding), second = begins(head);
    auto const on_embedding = changes_of(embedding), on_head = changes_of(head);
    auto const same = [](auto const* a, auto const* b) { return format::same_change(*a, *b); };
    if (same_tensor(first, second) &&
        std::equal(on_embedding.begin(), on_embedding.end(), on_head.begin(), on_head.end(), same))
      return keep(first);
    what_ = "tied to its head (tie_word_embeddings), and the adapter changes them differently";
    if (how == tied_weights::refuse)
      raise<value_error>("merge", embedding, what_,
                         "--tied untie or --tied share, as it was when the adapter was merged");
    if (how == tied_weights::share) return share(on_head);
    bool const foreign = head.ends_with("decoder.weight");  // such heads have a bias that is tied as well
    if (head.empty() || pair_.several || foreign)
      raise<value_error>("merge", embedding, what_ + "; it is not known how to give the head a tensor of its own here",
                         "an adapter without it, or --tied share (which changes all that share the tensor)");
    if (first.rows() != second.rows())
      raise<value_error>(
          "merge", embedding,
          what_ + ", and has " + std::to_string(first.rows()) + " rows, the head " + std::to_string(second.rows()),
          "as many in both: an adapter that holds both");
    if (start.rows() != base_[embedding].rows()) options_.replaced.emplace(embedding, start);
    if (!base_.contains(head)) options_.replaced.emplace(head, second);
    edits.untie = true;
    return embedding + " and " + head + " are tied no more, because the adapter changes them differently";
  }

 private:
  /// One tensor for both, changed once.
  std::string keep(stored_tensor const& begin) {
    if (!base_.contains(pair_.head)) {
      std::erase_if(changes_, [&](auto const& r) { return place_of(options_, r.module).weight == pair_.head; });
      options_.replaced.erase(pair_.head);
      if (begin.rows() != base_[pair_.embedding].rows()) options_.replaced.emplace(pair_.embedding, begin);
    }
    return "the tied " + pair_.embedding + " is changed once, for both";
  }
  /// One tensor for both, with the changes of both.
  std::string share(std::vector<adapter_record const*> const& on_head) {
    auto const *const embedding = replaced(pair_.embedding), *const head = replaced(pair_.head);
    if (embedding && head && !same_tensor(*embedding, *head))
      raise<value_error>("merge", pair_.embedding, what_ + ", with two tensors that differ", "--tied untie");
    if (base_.contains(pair_.head))
      raise<value_error>("merge", pair_.head, "in the files beside " + pair_.embedding + ", to which it is tied",
                         "--tied untie");
    if (head) options_.replaced.emplace(pair_.embedding, *head);
    for (auto const* r : on_head) options_.places[r->module] = {pair_.embedding};
    options_.replaced.erase(pair_.head);
    return pair_.embedding + " gets the changes of the embedding and of the head, which is tied to it";
  }
};

/// Puts into a merge what its model's tie asks for. `changes` and `options` are those of write_changed_model; a head
/// that the files lack has its place in them already.
/// returns  what was done, in a sentence; empty if nothing had to be
/// errors  value_error where `how` refuses, and where the tie cannot be opened
inline std::string settle_tied(safetensors_model const& base, base_facts const& facts, tied_weights how,
                               std::set<std::string> const& untrained, std::vector<adapter_record>& changes,
                               merge_options& options, config_edits& edits) {
  touched_tensors touched;
  for (auto const& r : changes) {
    bool const words = r.layer.form == layer_form::embedding;
    touched[place_of(options, r.module).weight] = {words ? r.a.cols : r.b.rows, words ? r.b.rows : r.a.cols};
  }
  for (auto const& [name, tensor] : options.replaced)
    if (tensor.shape.size() == 2) touched[name] = {tensor.rows(), tensor.cols()};
  auto const pair = find_tied_pair(base, facts, touched);
  if (!pair) return {};
  return tied_settlement(base, changes, options, *pair).settle(how, untrained, edits);
}

}  // namespace loraga

#pragma once
#include <loraga/io/base_facts.hpp>
#include <loraga/io/merge.hpp>
#include <loraga/io/model_companions.hpp>

// Models whose head is their embedding: one tensor for two modules, which an adapter may change apart.

namespace loraga {

/// What a merge makes of a tied head where an adapter changes it or the embedding, and not both alike.
enum class tied_weights {
  refuse,
  untie,  ///< each gets a tensor of its own, and config.json says so: what the adapter was trained on
  share   ///< the one tensor gets both changes
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
/// What a head is called in a model that calls its embedding so; empty where that is not known.
inline std::string head_of(std::string const& embedding) {
  for (auto const& [end, head] : {std::pair{"gpt_neox.embed_in.weight", "embed_out.weight"},
                                  {"bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"},
                                  {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}})
    if (embedding.ends_with(end)) return embedding.substr(0, embedding.size() - std::string_view(end).size()) + head;
  bool const decoder =
      ends_with_one_of(embedding, {"embed_tokens.weight", "wte.weight", "transformer.word_embeddings.weight",
                                   "tokens_embed.weight", "backbone.embeddings.weight"});
  return decoder ? "lm_head.weight" : "";
}

/// Whether two records do the same to one vocabulary x dim tensor.
inline bool same_change(adapter_record const& a, adapter_record const& b) {
  if (a.layer == b.layer) return a.scale == b.scale && a.a.values == b.a.values && a.b.values == b.b.values;
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

/// The two tensors of a tied model: `head` need not be in its files.
struct tied_pair {
  std::string embedding, head;
  bool several = false;  ///< more modules share the embedding (T5's, BART's): it cannot be given to the head alone
};

/// The tied pair that a merge touches, if it does. `touched` are the tensors that it changes.
/// errors  value_error where the model is tied and the merge changes it, and the names of the pair are not known
inline std::optional<tied_pair> find_tied_pair(safetensors_model const& base, base_facts const& facts,
                                               std::set<std::string> const& touched) {
  tied_pair pair;
  std::vector<std::string> embeddings;
  for (auto const& name : base.names()) {
    if (format::is_word_embedding(name)) embeddings.push_back(name);
    if (format::is_head(name)) pair.head = name;
  }
  if (!facts.is_tied(!pair.head.empty()) || embeddings.empty()) return {};
  std::string changed_embedding;
  for (auto const& name : touched) {
    if (format::is_head(name)) pair.head = name;
    if (std::find(embeddings.begin(), embeddings.end(), name) != embeddings.end()) changed_embedding = name;
  }
  if (changed_embedding.empty() && !touched.contains(pair.head)) return {};
  pair.embedding = changed_embedding.empty() ? embeddings[0] : changed_embedding;
  if (pair.head.empty()) pair.head = format::head_of(pair.embedding);
  pair.several = embeddings.size() > 1 || pair.embedding.ends_with("shared.weight");
  return pair;
}

/// Puts into a merge what its model's tie asks for. `changes` and `options` are those of write_changed_model; a head
/// that the files lack has its place in them already.
/// returns what was done, in a sentence; empty if nothing had to be
/// errors  value_error where `how` refuses, and where the tie cannot be opened
inline std::string settle_tied(safetensors_model const& base, base_facts const& facts, tied_weights how,
                               std::vector<adapter_record>& changes, merge_options& options, config_edits& edits) {
  std::set<std::string> touched;
  for (auto const& [name, tensor] : options.replaced) touched.insert(name);
  for (auto const& r : changes) touched.insert(place_of(options, r.module).weight);
  auto const pair = find_tied_pair(base, facts, touched);
  if (!pair) return {};
  auto const &embedding = pair->embedding, &head = pair->head;
  auto const changes_of = [&](std::string const& weight) {
    std::vector<adapter_record const*> of;
    for (auto const& r : changes)
      if (place_of(options, r.module).weight == weight) of.push_back(&r);
    return of;
  };
  auto const replaced = [&](std::string const& name) {
    auto const p = options.replaced.find(name);
    return p == options.replaced.end() ? nullptr : &p->second;
  };
  auto const drop_head = [&] {
    if (base.contains(head)) return;
    std::erase_if(changes, [&](auto const& r) { return place_of(options, r.module).weight == head; });
    options.replaced.erase(head);
  };
  auto const on_embedding = changes_of(embedding), on_head = changes_of(head);
  auto const *const new_embedding = replaced(embedding), *const new_head = replaced(head);
  bool const same_start =
      new_embedding && new_head ? same_tensor(*new_embedding, *new_head) : !new_embedding && !new_head;
  auto const same = [](auto const* a, auto const* b) { return format::same_change(*a, *b); };
  if (same_start && std::equal(on_embedding.begin(), on_embedding.end(), on_head.begin(), on_head.end(), same)) {
    drop_head();
    return "the tied " + embedding + " is changed once, for both";
  }
  bool const resized = new_embedding && !new_head && new_embedding->rows() != base[embedding].rows();
  if (resized && on_head.empty() && !base.contains(head)) return "the tied " + embedding + " is resized, for both";
  std::string const what = "tied to its head (tie_word_embeddings), and the adapter changes " +
                           std::string(on_embedding.empty() && !new_embedding ? "the head" : "the embedding") +
                           " alone";
  if (how == tied_weights::refuse)
    raise<value_error>("merge", embedding, what, "--tied untie or --tied share, as it was when the adapter was merged");
  if (how == tied_weights::share) {
    if (new_embedding && new_head && !same_start)
      raise<value_error>("merge", embedding, what + ", with two tensors that differ", "--tied untie");
    if (new_head && !new_embedding) options.replaced.emplace(embedding, *new_head);
    for (auto const* r : on_head) options.places[r->module] = {embedding};
    if (base.contains(head))
      raise<value_error>("merge", head, "in the files beside " + embedding + ", to which it is tied", "--tied untie");
    options.replaced.erase(head);
    return embedding + " gets the changes of the embedding and of the head, which is tied to it";
  }
  if (head.empty() || pair->several)
    raise<value_error>("merge", embedding, what + "; several modules share it, or the head's name is not known",
                       "an adapter without it, or --tied share (which changes all of them)");
  if (!new_head && !base.contains(head)) options.replaced.emplace(head, base[embedding]);
  edits.untie = true;
  return embedding + " and " + head + " are tied no more, because the adapter changes them differently";
}

}  // namespace loraga

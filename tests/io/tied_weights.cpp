#include <loraga/io/tied_weights.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

namespace {
std::string pair_of(std::vector<std::string> const& names, std::set<std::string> const& touched,
                    std::string const& config = R"({"tie_word_embeddings":true})") {
  test::folder const folder;
  test::named_weights w;
  for (auto const& n : names) w.push_back({n, test::host(2, 2)});
  test::write_model_folder(folder / "m", w, config);
  safetensors_model const base(folder / "m");
  auto const pair = find_tied_pair(base, base_facts(base), touched);
  return pair ? pair->embedding + " " + pair->head + (pair->several ? " and others" : "") : "";
}
}  // namespace

TEST_CASE("the tied pair of each kind of model", "[io]") {
  auto const pair = [](std::string const& embedding) { return pair_of({embedding}, {embedding}); };
  CHECK(pair("model.embed_tokens.weight") == "model.embed_tokens.weight lm_head.weight");
  CHECK(pair("wte.weight") == "wte.weight lm_head.weight");
  CHECK(pair("model.language_model.embed_tokens.weight") == "model.language_model.embed_tokens.weight lm_head.weight");
  CHECK(pair("language_model.model.embed_tokens.weight") ==
        "language_model.model.embed_tokens.weight language_model.lm_head.weight");
  CHECK(pair("gpt_neox.embed_in.weight") == "gpt_neox.embed_in.weight embed_out.weight");
  CHECK(pair("bert.embeddings.word_embeddings.weight") ==
        "bert.embeddings.word_embeddings.weight cls.predictions.decoder.weight");
  CHECK(pair("shared.weight") == "shared.weight  and others");
  CHECK(pair("x.my_words.weight").empty());
}

TEST_CASE("a pair counts where a merge touches it and the model ties it", "[io]") {
  std::vector<std::string> const names{"model.embed_tokens.weight", "q.weight"};
  CHECK(pair_of(names, {"q.weight"}).empty());
  CHECK(pair_of(names, {"lm_head.weight"}) == "model.embed_tokens.weight lm_head.weight");
  CHECK(pair_of(names, {"model.embed_tokens.weight"}, R"({"tie_word_embeddings":false})").empty());
  CHECK(pair_of({names[0], "lm_head.weight"}, {"lm_head.weight"}) == "model.embed_tokens.weight lm_head.weight");
  CHECK(pair_of({names[0], "lm_head.weight"}, {"lm_head.weight"}, R"({"architectures":["XForCausalLM"]})").empty());
}

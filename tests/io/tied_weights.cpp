#include <loraga/io/tied_weights.hpp>

#include "../support/catch.hpp"
#include "models.hpp"
#include "records.hpp"

using namespace loraga;

namespace {
using names = std::vector<std::string>;

/// What is found where 6 x 2 tensors are touched.
std::string pair_of(names const& base_names, names const& touched,
                    std::string const& config = R"({"tie_word_embeddings":true,"vocab_size":6})") {
  test::folder const folder;
  test::named_weights w;
  for (auto const& n : base_names) w.push_back({n, test::host(n == "q.weight" ? 2 : 6, 2)});
  test::write_model_folder(folder / "m", w, config);
  safetensors_model const base(folder / "m");
  touched_tensors shapes;
  for (auto const& n : touched) shapes[n] = {n == "score.weight" ? 3 : 6, 2};
  auto const pair = find_tied_pair(base, base_facts(base), shapes);
  return pair ? pair->embedding + " " + pair->head + (pair->several ? " and others" : "") : "";
}
}  // namespace

TEST_CASE("a head is named where its kind of model is sure, and not by guess", "[io]") {
  auto const pair = [](std::string const& embedding, std::string const& architecture = "") {
    auto const built = architecture.empty() ? "" : ",\"architectures\":[\"" + architecture + "\"]";
    auto const text = pair_of({embedding}, {embedding}, "{\"tie_word_embeddings\":true,\"vocab_size\":6" + built + "}");
    return text.substr(std::min(text.size(), embedding.size() + 1));
  };
  for (auto const* name :
       {"model.embed_tokens.weight", "wte.weight", "transformer.wte.weight", "model.decoder.embed_tokens.weight",
        "word_embeddings.weight", "backbone.embeddings.weight"}) {
    CHECK(pair(name) == "lm_head.weight");
    CHECK(pair(name, "XForCausalLM") == "lm_head.weight");
    CHECK(pair(name, "XForConditionalGeneration").empty());  // Whisper's is proj_out
  }
  CHECK(pair("model.language_model.embed_tokens.weight", "XForConditionalGeneration") == "lm_head.weight");
  CHECK(pair("language_model.model.embed_tokens.weight") == "language_model.lm_head.weight");
  CHECK(pair("gpt_neox.embed_in.weight") == "embed_out.weight");
  for (auto const* name : {"biogpt.embed_tokens.weight", "distilbert.embeddings.word_embeddings.weight",
                           "bert.embeddings.word_embeddings.weight", "albert.embeddings.word_embeddings.weight",
                           "language_model.model.decoder.embed_tokens.weight"})
    CHECK(pair(name).empty());
  CHECK(pair("shared.weight") == " and others");
}

TEST_CASE("a pair counts where a merge touches it and the model ties it", "[io]") {
  names const base{"model.embed_tokens.weight", "q.weight"};
  CHECK(pair_of(base, {"q.weight"}).empty());
  CHECK(pair_of(base, {"score.weight"}).empty());  // a new head of another size
  CHECK(pair_of(base, {"lm_head.weight"}) == "model.embed_tokens.weight lm_head.weight");
  CHECK(pair_of(base, {"proj_out.weight"}) == "model.embed_tokens.weight proj_out.weight");  // whatever it is called
  CHECK(pair_of(base, {base[0]}, R"({"tie_word_embeddings":false})").empty());
  CHECK(pair_of({base[0], "lm_head.weight"}, {"lm_head.weight"}) == "model.embed_tokens.weight lm_head.weight");
  CHECK(pair_of({base[0], "lm_head.weight"}, {"lm_head.weight"}, R"({"architectures":["XForCausalLM"]})").empty());
  // an embedding that is called like none is known by its size
  CHECK(pair_of({"word_embedding.weight"}, {"word_embedding.weight"}) == "word_embedding.weight ");
  CHECK(pair_of({"encoder.wte.weight", "decoder.wte.weight"}, {"decoder.wte.weight"}) ==
        "decoder.wte.weight  and others");
  CHECK_THROWS_WITH(pair_of({"my_words.weight"}, {"lm_head.weight"}), Catch::Contains("whose name is not known"));
}

TEST_CASE("two changes of one tensor are the same only if all that they hold is", "[io]") {
  auto const linear = test::random_record("head", 6, 2, 2, 0, 1);
  CHECK(format::same_change(linear, linear));
  auto scaled = linear;
  scaled.scale *= 2;
  CHECK(!format::same_change(linear, scaled));
  CHECK(!format::same_change(test::with_magnitude(linear), linear));
  auto other = test::with_magnitude(linear);
  other.magnitude.values[0] *= 2;
  CHECK(!format::same_change(test::with_magnitude(linear), other));
  CHECK(!format::same_change(test::with_e(linear), linear));
  // an embedding's: dim x vocabulary
  auto words = test::random_record("words", 2, 6, 2, 0, 3);
  words.layer = {layer_form::embedding};
  CHECK(!format::same_change(linear, words));
  for (index_t i = 0; i < 2; ++i)
    for (index_t j = 0; j < 6; ++j) words.a.view()(i, j) = linear.b.view()(j, i);
  for (index_t i = 0; i < 2; ++i)
    for (index_t j = 0; j < 2; ++j) words.b.view()(i, j) = linear.a.view()(j, i);
  CHECK(format::same_change(linear, words));
}

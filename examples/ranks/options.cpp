#include "options.hpp"

#include <CLI/CLI.hpp>

#include "../training/methods.hpp"
#include "../training/options.hpp"

namespace ranks {

options parse_options(int argc, char** argv) {
  options o;
  CLI::App app{
      "Trains the vision and the language example on the ranks that mpirun starts, and writes OUT/ranks-N.json: "
      "losses, "
      "seconds, bytes. A run does what one process does with the union of the data."};
  auto const text = [&](char const* name, std::string& value, char const* meaning) {
    app.add_option(name, value, meaning)->capture_default_str()->take_last();
  };
  auto const count = [&](char const* name, index_t& value, char const* meaning) {
    app.add_option(name, value, meaning)->capture_default_str()->check(CLI::PositiveNumber);
  };
  app.add_option("--examples", o.examples, "which of the two")
      ->capture_default_str()
      ->check(CLI::IsMember({"vision", "language"}));
  app.add_option("--methods", o.methods, "which methods; a gamma may stand behind a name: lora-ga-32")
      ->capture_default_str();
  app.add_option("--seed", o.seed, "of head, data order and gradient sample")->capture_default_str();
  text("--images", o.images, "folder of Fashion-MNIST");
  text("--cache", o.cache, "folder for the vision example's pre-trained weights");
  text("--dictionary", o.dictionary, "the language example's data");
  text("--model", o.model, "its base: a GGUF file, or a folder with safetensors");
  text("--out", o.out, "folder for what the program writes");
  count("--rank", o.rank, "rank of the adapters");
  count("--steps", o.steps, "training steps of the vision example");
  count("--batch", o.batch, "its images per step, of all ranks together");
  count("--held-out-images", o.held_out_images, "images that are evaluated");
  count("--language-steps", o.language_steps, "training steps of the language example");
  count("--language-batch", o.language_batch, "its definitions per step, of all ranks together");
  count("--held-out", o.held_out, "definitions that are evaluated");
  count("--longest", o.longest, "tokens of a definition, the rest of which is cut off");
  count("--checkpoint-every", o.checkpoint_every,
        "steps between states, from which any number of ranks goes on after a kill (default: none are written)");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& end) {
    std::exit(app.exit(end));
  }
  for (auto const& name : o.methods) training::find_method(name);
  training::require_distinct("--examples", o.examples);
  training::require_distinct("--methods", o.methods);
  return o;
}

}  // namespace ranks

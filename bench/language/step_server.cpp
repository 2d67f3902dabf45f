// Training steps of a quantised language model on request, for a benchmark that lets another program take turns:
//   step_server MODEL DICTIONARY FOLDER THREADS TOKENS BATCHES
// writes BATCHES batches of 8 definitions to FOLDER/batches.json and untrained LoRA adapters (r = 8, kaiming) of all
// linear layers to FOLDER/adapter, then takes one AdamW step per line on stdin, on the next batch, and answers with its
// mean loss before the step and its seconds.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>
#include <nlohmann/json.hpp>

#include "../../examples/language/dictionary.hpp"
#include "../../examples/model/language_model.hpp"

namespace {

using loraga::index_t;
using backend = loraga::cpu;
using adapter = loraga::lora<float, backend>;
constexpr index_t batch_size = 8;

void write_batches(data::token_set const& set, index_t count, std::filesystem::path const& path) {
  auto all = nlohmann::json::array();
  for (index_t b = 0; b < count; ++b) {
    all.push_back(nlohmann::json::array());
    for (index_t i = b * batch_size; i < (b + 1) * batch_size; ++i)
      all.back().push_back({{"prompt", set[i].prompt}, {"tokens", set[i].tokens}});
  }
  std::ofstream file(path);
  file << all.dump();
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

void run(char** words) {
  loraga::base_model const base(words[1]);
  auto const tokenizer = language::read_tokenizer(base);
  auto const data =
      language::read_dictionary(data::read_dictd(words[2]), language::questions(tokenizer, words[1]), 64, 128);
  std::filesystem::path const folder = words[3];
  index_t const batches = std::stol(words[6]);
  write_batches(data.train, batches, folder / "batches.json");

  backend be(std::stoi(words[4]));
  model::language_model<backend> m(be, {&base, model::read_decoder_shape(base), std::stol(words[5])});
  loraga::adamw<float, backend> optimiser(be);
  std::vector<loraga::adapter_record> records;
  for (auto* l : m.linears()) {
    auto& ad = l->adapter.emplace<adapter>(be, l->out(), l->in(), 8, loraga::classic_scaling{.alpha = 16});
    std::array<loraga::layer<adapter>, 1> const one{{{&ad}}};
    loraga::initialise(be, one, loraga::kaiming_init{records.size()});
    loraga::add_adapter(be, optimiser, ad, {.learning_rate = 1e-3});
    records.push_back(loraga::take_record(be, ad, l->module()));
  }
  loraga::save_peft(folder / "adapter", records,
                    {.base_model = base.path().filename().string(), .may_replace = loraga::overwrite::yes},
                    loraga::unchecked_names{});
  std::puts("ready");
  std::fflush(stdout);

  std::string line;
  for (index_t b = 0; std::getline(std::cin, line); b = (b + 1) % batches) {
    auto const began = std::chrono::steady_clock::now();
    model::language_model<backend>::batch_type items;
    for (index_t i = b * batch_size; i < (b + 1) * batch_size; ++i) items.push_back(&data.train[i]);
    for (auto* l : m.linears()) l->adapter.zero_gradient(be);
    auto const result = m.run(be, items, true);
    optimiser.step(be);
    std::printf("%.9g %.6f\n", result.mean(),
                std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7) throw std::runtime_error("expected MODEL DICTIONARY FOLDER THREADS TOKENS BATCHES");
  run(argv);
} catch (std::exception const& failure) {
  std::fprintf(stderr, "step_server: %s\n", failure.what());
  return 1;
}

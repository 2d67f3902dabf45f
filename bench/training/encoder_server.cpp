// Training steps of all-MiniLM-L6-v2 on request, for a benchmark that lets another program take turns:
//   encoder_server MODEL SNIPPETS FOLDER THREADS METHOD BATCHES
// MODEL is the encoder's folder, SNIPPETS one of VADER's files, METHOD `lora` (r = 8 on all linear layers, kaiming) or
// `full`. Writes BATCHES batches of 16 snippets to FOLDER/batches.json, the new head to FOLDER/head.json and the
// untrained adapters to FOLDER/adapter, then takes one AdamW step per line on stdin, on the next batch, and answers
// with its mean loss before the step and its seconds.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>
#include <nlohmann/json.hpp>

#include "../../examples/data/vader.hpp"
#include "../../examples/model/bert_checkpoint.hpp"

namespace {

using loraga::index_t;
using backend = loraga::cpu;
using adapter = loraga::lora<float, backend>;
using encoder = model::text_encoder<backend>;
using optimiser = loraga::adamw<float, backend>;
constexpr index_t batch_size = 16;
constexpr loraga::adamw_group lora_rates{.learning_rate = 1e-3}, full_rates{.learning_rate = 1e-4};

data::text_set read_snippets(std::filesystem::path const& model, std::string const& file) {
  data::wordpiece const tokenizer(model / "vocab.txt");
  return data::split_vader(data::read_vader(file), tokenizer, {}).train;
}

void write_json(nlohmann::json const& what, std::filesystem::path const& path) {
  std::ofstream file(path);
  file << what.dump();
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

std::vector<std::vector<index_t>> draw_batches(data::text_set const& set, index_t count) {
  data::sampler order(set.count(), {1, 1});
  std::vector<std::vector<index_t>> all;
  for (index_t b = 0; b < count; ++b) all.push_back(order.draw(batch_size));
  return all;
}

nlohmann::json describe(data::text_set const& set, std::vector<std::vector<index_t>> const& batches) {
  auto all = nlohmann::json::array();
  for (auto const& batch : batches) {
    all.push_back(nlohmann::json::array());
    for (index_t const i : batch) all.back().push_back({{"tokens", set.tokens(i)}, {"label", set.label(i)}});
  }
  return all;
}

/// Adapters of all linear layers, started, written and to be trained.
void add_adapters(backend& be, encoder& m, optimiser& opt, std::filesystem::path const& folder) {
  std::vector<loraga::adapter_record> records;
  for (auto* l : m.linears()) {
    auto& ad = l->adapter.emplace<adapter>(be, l->out(), l->in(), 8, loraga::classic_scaling{.alpha = 16});
    std::array<loraga::layer<adapter>, 1> const one{{{&ad}}};
    loraga::initialise(be, one, loraga::kaiming_init{records.size()});
    loraga::add_adapter(be, opt, ad, lora_rates);
    auto const module = l->weight.name.substr(0, l->weight.name.rfind('.'));
    records.push_back(loraga::take_record(be, ad, module));
  }
  loraga::save_peft(folder / "adapter", records,
                    {.base_model = "all-MiniLM-L6-v2", .may_replace = loraga::overwrite::yes},
                    loraga::unchecked_names{});
}

void run(char** words) {
  std::filesystem::path const folder = words[3];
  std::string const method = words[5];
  if (method != "lora" && method != "full")
    throw std::runtime_error("METHOD is '" + method + "'; expected lora or full");
  auto const set = read_snippets(words[1], words[2]);
  auto const batches = draw_batches(set, std::stol(words[6]));
  write_json(describe(set, batches), folder / "batches.json");

  backend be(std::stoi(words[4]));
  encoder m(be, model::read_bert_shape(words[1]));
  model::load(be, m, model::read_bert(words[1], m));
  m.randomise_head(be, {1, 4000});
  write_json({{"weight", loraga::read_all(be, m.head.weight.value.view())},
              {"bias", loraga::read_all(be, m.head.bias.value.view())}},
             folder / "head.json");
  optimiser opt(be);
  auto trained = m.tensors();
  if (method == "lora") trained.erase(trained.begin(), trained.end() - 2);  // the head trains either way
  for (auto* t : trained) {
    t->train(be, true);
    opt.add(be, opt.group(be, method == "lora" ? lora_rates : full_rates), t->parameter());
  }
  if (method == "lora") add_adapters(be, m, opt, folder);
  std::puts("ready");
  std::fflush(stdout);

  data::text_buffer<backend> buffer;
  std::string line;
  for (std::size_t b = 0; std::getline(std::cin, line); b = (b + 1) % batches.size()) {
    auto const began = std::chrono::steady_clock::now();
    for (auto* t : trained) loraga::fill(be, t->gradient.view(), 0);
    for (auto* l : m.linears()) l->adapter.zero_gradient(be);
    auto const result = m.run(be, buffer.pick(be, set, batches[b]), true);
    opt.step(be);
    std::printf("%.9g %.6f\n", result.mean(),
                std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7) throw std::runtime_error("expected MODEL SNIPPETS FOLDER THREADS METHOD BATCHES");
  run(argv);
} catch (std::exception const& failure) {
  std::fprintf(stderr, "encoder_server: %s\n", failure.what());
  return 1;
}

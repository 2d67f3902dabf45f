// Singular values of the mean gradient of a quantised language model's layers, before training:
//   spectra MODEL DICTIONARY BATCHES BLOCK...
// prints a JSON object per linear layer of these blocks, over BATCHES batches of 8 definitions.
//   spectra MODEL DICTIONARY BATCHES --matrices FOLDER BLOCK...
// writes the gradients instead, a matrix file each.
#include <cstdio>
#include <loraga/cpu.hpp>
#include <nlohmann/json.hpp>

#include "../../examples/language/dictionary.hpp"
#include "../../examples/model/language_model.hpp"
#include "../cpu/matrix_file.hpp"

namespace {

using loraga::index_t;
using backend = loraga::cpu;

void write_gradient(std::filesystem::path const& path, loraga::const_view<float, loraga::host_space> g) {
  std::ofstream file(path, std::ios::binary);
  backend be;
  bench::write_matrix(file, g.rows, g.cols, loraga::read_all(be, g));
  if (!file) throw std::runtime_error(path.string() + ": cannot be written");
}

void run(int argc, char** argv) {
  bool const whole = std::string_view(argv[4]) == "--matrices";
  if (whole && argc < 7) throw std::runtime_error("expected --matrices FOLDER BLOCK...");
  loraga::base_model const base(argv[1]);
  auto const tokenizer = language::read_tokenizer(base);
  auto const data =
      language::read_dictionary(data::read_dictd(argv[2]), language::questions(tokenizer, argv[1]), 64, 128);
  backend be;
  model::language_model<backend> m(be, {&base, model::read_decoder_shape(base), 256});
  std::vector<model::frozen_linear<backend>*> layers;
  for (int a = whole ? 6 : 4; a < argc; ++a)
    for (auto* l : m.network.blocks.at(std::stoul(argv[a])).linears()) layers.push_back(l);
  std::vector<loraga::dense_gradient<backend>> all;
  for (auto* l : layers) all.emplace_back(be, l->out(), l->in());
  for (std::size_t i = 0; i < layers.size(); ++i)
    layers[i]->watcher = [&g = all[i]](backend& on, auto dy, auto x) { g.add_outer(on, dy, x); };
  data::sampler order(data.train.count(), {1, 1000});
  data::token_set::buffer<backend> buffer;
  for (index_t b = 0; b < std::stol(argv[3]); ++b) m.run(be, buffer.pick(be, data.train, order.draw(8)), true);
  if (whole) std::filesystem::create_directories(argv[5]);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& g = all[i];
    if (whole) {
      write_gradient(std::filesystem::path(argv[5]) / (layers[i]->module() + ".f32"), g.sum());
      continue;
    }
    auto const t = g.top(be, loraga::gram{}, std::min(layers[i]->out(), layers[i]->in()));
    std::vector<double> values;
    for (float const s : loraga::read_all(be, t[0].s)) values.push_back(static_cast<double>(s));
    nlohmann::json const row{{"name", layers[i]->module()},
                             {"out", layers[i]->out()},
                             {"in", layers[i]->in()},
                             {"spectrum", std::move(values)}};
    std::puts(row.dump().c_str());
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) throw std::runtime_error("expected MODEL DICTIONARY BATCHES BLOCK...");
  run(argc, argv);
} catch (std::exception const& failure) {
  std::fprintf(stderr, "spectra: %s\n", failure.what());
  return 1;
}

// real_gradients DATA CACHE OUT: writes the weight gradients that examples/finetune samples for LoRA-GA (its model, its
// sample, seed 1) to OUT, one matrix file per layer.
#include <cstdio>
#include <filesystem>
#include <loraga/cpu.hpp>

#include "finetune/checkpoint.hpp"
#include "matrix_file.hpp"

int main(int argc, char** argv) try {
  if (argc != 4) throw std::runtime_error("usage: real_gradients DATA CACHE OUT");
  loraga::cpu be;
  model::vision_transformer_shape const shape;
  finetune::settings const s;
  auto const checkpoint = finetune::cached_checkpoint(be, shape, argv[1], argv[2], 500);
  data::device_set<loraga::cpu> const training(be, data::read_fashion_mnist(argv[1], "train", 5, 9));
  finetune::task<loraga::cpu> const task{shape, checkpoint, &training, &training, 0};
  model::vision_transformer<loraga::cpu> m(be, shape);
  finetune::prepare(be, m, task, {"full", finetune::start::full}, s, 1);
  auto const gradients = finetune::estimate_gradients(be, m, training, s, {1, 1000});
  std::filesystem::create_directories(argv[3]);
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const sum = gradients[i].sum();
    std::string const path = std::string(argv[3]) + "/" + layers[i]->weight.name + ".f32";
    std::ofstream file(path, std::ios::binary);
    bench::write_matrix(file, sum.rows, sum.cols, loraga::read_all(be, sum));
    if (!file) throw std::runtime_error(path + ": cannot be written");
  }
} catch (std::exception const& failure) {
  std::fprintf(stderr, "real_gradients: %s\n", failure.what());
  return 1;
}

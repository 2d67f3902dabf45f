// real_gradients DATA CACHE OUT: writes the weight gradients that examples/vision samples for LoRA-GA (its model, its
// sample, seed 1) to OUT, one matrix file per layer.
#include <cstdio>
#include <filesystem>
#include <loraga/cpu.hpp>

#include "matrix_file.hpp"
#include "model/vision_transformer.hpp"
#include "vision/options.hpp"
#include "vision/pre_training.hpp"

int main(int argc, char** argv) try {
  if (argc != 4) throw std::runtime_error("usage: real_gradients DATA CACHE OUT");
  loraga::cpu be;
  using transformer = model::vision_transformer<loraga::cpu>;
  using set = data::device_set<loraga::cpu>;
  model::vision_transformer_shape const shape;
  auto const weights = vision::pre_trained<transformer>(be, shape, argv[1], argv[2], 500);
  data::parts<set> const parts{{be, data::read_fashion_mnist(argv[1], "train", 5, 9)}, {}, {}};
  transformer m(be, shape);
  training::set_up(be, m, training::task<transformer, set>{.shape = shape, .weights = &weights, .data = &parts}, 1);
  auto const gradients = training::estimate_gradients<loraga::dense_gradient<loraga::cpu>>(
      be, m, parts.train, vision::usual_sample, {1, 1000});
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

#pragma once
#include <cstdio>
#include <filesystem>

#include "trainer.hpp"

namespace finetune {

/// The pre-trained model from the cache, or trained now and kept there: written to a temporary file and renamed, so
/// that a file in place is a whole one. The name holds the shape and the number of steps.
template <class B>
weights cached_checkpoint(B& be, model::vision_transformer_shape shape, std::string const& data_folder,
                          std::string const& cache, index_t steps) {
  model::vision_transformer<B> m(be, shape);
  std::string path = cache + "/vit";
  for (index_t const n : {shape.side, shape.patch, shape.width, shape.layers, shape.heads, shape.hidden, shape.classes})
    path += "-" + std::to_string(n);
  path += "-steps" + std::to_string(steps) + ".f32";
  weights w;
  if (std::ifstream file(path, std::ios::binary); file) {
    for (auto* t : m.tensors()) {
      w.emplace_back(static_cast<std::size_t>(t->value.rows() * t->value.cols()));
      file.read(reinterpret_cast<char*>(w.back().data()),
                static_cast<std::streamsize>(w.back().size() * sizeof(float)));
    }
    bool const finite = std::all_of(w.begin(), w.end(), [](auto const& t) {
      return std::all_of(t.begin(), t.end(), [](float x) { return loraga::is_finite(static_cast<double>(x)); });
    });
    if (!file || !finite || file.peek() != std::ifstream::traits_type::eof())
      throw std::runtime_error(path + ": is not a checkpoint of this model; delete it to train it again");
    std::printf("pre-trained model: %s\n", path.c_str());
    return w;
  }
  data::device_set<B> const training(be, data::read_fashion_mnist(data_folder, "train", 0, 4));
  data::device_set<B> const test(be, data::read_fashion_mnist(data_folder, "t10k", 0, 4));
  std::printf("pre-training on classes 0-4, %lld steps of 64 images (kept in %s)\n", static_cast<long long>(steps),
              path.c_str());
  w = pre_train(be, shape, training, steps, [&](index_t step, double loss) {
    std::printf("  step %lld of %lld, batch loss %.3f\n", static_cast<long long>(step), static_cast<long long>(steps),
                loss);
    std::fflush(stdout);
  });
  load(be, m, w);
  auto const r = evaluate(be, m, test, 0, test.count());
  std::printf("  test accuracy on classes 0-4: %.3f\n", static_cast<double>(r.correct) / static_cast<double>(r.count));
  std::filesystem::create_directories(cache);
  std::ofstream file(path + ".tmp", std::ios::binary);
  for (auto const& t : w)
    file.write(reinterpret_cast<char const*>(t.data()), static_cast<std::streamsize>(t.size() * sizeof(float)));
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written");
  std::filesystem::rename(path + ".tmp", path);
  return w;
}

}  // namespace finetune

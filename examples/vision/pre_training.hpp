#pragma once
#include <cstdio>
#include <filesystem>

#include "../data/fashion_mnist.hpp"
#include "../training/trainer.hpp"

namespace vision {

using training::index_t;

/// Trains a model from scratch: `steps` batches of 64 at a cosine rate of 1e-3.
template <class M, class B>
model::weights pre_train(B& be, typename M::shape_type const& shape, data::parts<data::device_set<B>> const& parts,
                         index_t steps, training::listener const& tell) {
  M m(be, shape);
  m.randomise(be, 1);
  auto const random = model::save(be, m);
  training::task<M, data::device_set<B>> const t{.shape = shape, .weights = &random, .data = &parts, .new_head = false};
  training::trainer run(be, t,
                        {.method = "full",
                         .rate = 1e-3,
                         .seed = 1,
                         .steps = steps,
                         .warmup = steps / 20,
                         .batch = 64,
                         .evaluate_every = 50});
  auto const r = run.run({}, tell);
  std::printf("  test accuracy on classes 0-4: %.3f\n", r.accuracy);
  return model::save(be, run.model());
}

/// The tensors of a model, as a file of their own.
template <class M>
struct tensors_of {
  M& m;
  template <class C>
  void visit_state(C& c) {
    for (auto* t : m.tensors()) c(t->name, t->value.view());
  }
};

/// The model pre-trained on classes 0 to 4, from the cache, or trained now and kept there. The file's name holds the
/// shape and the number of steps.
/// errors  runtime_error if the file is of another model, or broken
template <class M, class B>
model::weights pre_trained(B& be, typename M::shape_type const& shape, std::string const& data_folder,
                           std::string const& cache, index_t steps) {
  auto const path = cache + "/" + shape.name() + "-steps" + std::to_string(steps) + ".safetensors";
  M m(be, shape);
  tensors_of<M> all{m};
  if (std::filesystem::exists(path)) {
    try {
      loraga::load_checkpoint(be, path, [&](auto& c) { all.visit_state(c); });
    } catch (std::exception const& failure) {
      throw std::runtime_error(std::string(failure.what()) + "; delete the file to pre-train the model again");
    }
    std::printf("pre-trained model: %s\n", path.c_str());
    return model::save(be, m);
  }
  auto const read = [&](char const* part) {
    return data::device_set<B>(be, data::read_fashion_mnist(data_folder, part, 0, 4));
  };
  data::parts<data::device_set<B>> const parts{read("train"), {}, read("t10k")};
  std::printf("pre-training on classes 0-4, %lld steps of 64 images (kept in %s)\n", static_cast<long long>(steps),
              path.c_str());
  auto const w = pre_train<M>(be, shape, parts, steps, [](training::progress const& p) {
    std::printf("  step %lld of %lld, loss %.3f\n", static_cast<long long>(p.step), static_cast<long long>(p.steps),
                p.loss);
    std::fflush(stdout);
  });
  model::load(be, m, w);
  std::filesystem::create_directories(cache);
  loraga::save_checkpoint(be, path, [&](auto& c) { all.visit_state(c); });
  return w;
}

}  // namespace vision

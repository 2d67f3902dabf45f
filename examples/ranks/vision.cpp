// The main job's transformer and images.
#include "../model/vision_transformer.hpp"
#include "../vision/pre_training.hpp"
#include "job.hpp"

namespace ranks {

std::vector<json> vision_runs(loraga::cpu& be, communicator& comm, options const& o) {
  using network = model::vision_transformer<loraga::cpu>;
  using set = data::device_set<loraga::cpu>;
  typename network::shape_type const shape;
  auto const read = [&] { return vision::pre_trained<network>(be, shape, o.images, o.cache, 500); };
  model::weights weights;
  if (comm.rank() == 0) weights = read();
  loraga::agree(be, comm, "the pre-trained model");  // the first one may have trained it
  if (comm.rank() != 0) weights = read();
  auto const test = data::read_fashion_mnist(o.images, "t10k", 5, 9);
  data::parts<set> const parts{{be, data::read_fashion_mnist(o.images, "train", 5, 9)},
                               {},
                               {be, test.slice(0, std::min(o.held_out_images, test.count()))}};
  training::task<network, set> const task{.shape = shape,
                                          .weights = &weights,
                                          .data = &parts,
                                          .curve_items = o.held_out_images,
                                          .merged = true,
                                          .layer_seeds = true};
  std::vector<json> runs;
  for (auto const& method : o.methods) {
    auto s = spec_of(o, method);
    s.set = "new-classes";
    s.steps = o.steps;
    s.batch = o.batch;
    s.evaluate_every = std::max<index_t>(1, o.steps / 6);
    s.sample = {8, 64};
    runs.push_back(train(be, comm, task, s, "vision", o));
  }
  return runs;
}

}  // namespace ranks

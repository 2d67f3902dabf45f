// A network of LibTorch, trained on upright pictures of clothes, learns to see them lying on their side: by LoRA and by
// LoRA-GA, at several rates, with nothing else trained. fine_tune.hpp holds all that is about adapters.
#include <torch/utils.h>

#include <cstdio>

#include "fine_tune.hpp"

namespace {

using namespace example;

/// The batch of a step, the same for all methods.
auto batches(image_tensors const& all, std::uint64_t seed) {
  return [&all, seed](int step) {
    torch::manual_seed(seed + static_cast<std::uint64_t>(step));
    return all.at(torch::randint(all.count(), {64}, torch::kLong));
  };
}

/// Mean loss and accuracy.
template <class Net>
std::pair<double, double> evaluate(Net& net, image_tensors const& set) {
  torch::NoGradGuard const off;
  net.eval();
  double loss = 0, right = 0;
  std::int64_t const most = 500;
  for (std::int64_t first = 0; first < set.count(); first += most) {
    image_tensors const part{set.images.slice(0, first, first + most), set.labels.slice(0, first, first + most)};
    auto const logits = net.forward(part.images);
    auto const n = static_cast<double>(part.count());
    loss += loss_of(logits, part).template item<double>() * n;
    right += logits.argmax(1).eq(part.labels).sum().template item<double>();
  }
  net.train();
  auto const n = static_cast<double>(set.count());
  return {loss / n, right / n};
}

plain_network pre_train(image_tensors const& upright, int steps) {
  torch::manual_seed(1);
  using convolution = torch::nn::Conv2dOptions;
  plain_network net(torch::nn::Conv2d(convolution(1, 16, 5).stride(2).padding(2)),
                    torch::nn::Conv2d(convolution(16, 32, 3).stride(2).padding(1)), torch::nn::Linear(32 * 7 * 7, 128),
                    torch::nn::Linear(128, 10));
  torch::optim::AdamW optimiser(net.parameters(), torch::optim::AdamWOptions(2e-3));
  auto const batch = batches(upright, 100000);
  for (int step = 0; step < steps; ++step) {
    auto const b = batch(step);
    optimiser.zero_grad();
    loss_of(net.forward(b.images), b).backward();
    optimiser.step();
  }
  return net;
}

int run(std::string const& data, std::string const& out, int steps) {
  auto const train = read_images(data, "train"), test = read_images(data, "t10k");
  auto const turned = train.turned(), turned_test = test.turned();
  auto base = pre_train(train, 1000);
  auto const before = evaluate(base, test), turned_before = evaluate(base, turned_test);
  std::printf("pre-trained: loss %.3f, accuracy %.3f upright; %.3f, %.3f on its side\n", before.first, before.second,
              turned_before.first, turned_before.second);
  std::filesystem::create_directories(out);
  std::printf("%-8s %-7s %10s %10s\n", "start", "rate", "test loss", "accuracy");
  double best[2] = {1e9, 1e9};
  for (bool const lora_ga : {false, true})
    for (double const rate : {1e-3, 3e-3, 1e-2, 3e-2}) {
      double last = 0;
      auto net = fine_tune(base, batches(turned, 7), lora_ga, rate, steps, [&](int, double loss) { last = loss; });
      auto const [loss, accuracy] = evaluate(net, turned_test);
      std::printf("%-8s %-7g %10.3f %10.3f   (last step's loss %.3f)\n", lora_ga ? "LoRA-GA" : "LoRA", rate, loss,
                  accuracy, last);
      if (loss >= best[lora_ga]) continue;
      best[lora_ga] = loss;
      if (lora_ga)
        lt::save_peft(out + "/adapter", net,
                      {.profile = peft_profile::portable, .base = peft_base::original, .may_replace = overwrite::yes});
    }
  lt::save_base(out + "/base.safetensors", base, overwrite::yes);
  std::printf("each at its best rate: LoRA %.3f, LoRA-GA %.3f; adapter and base in %s\n", best[0], best[1],
              out.c_str());
  return best[1] < turned_before.first ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: libtorch DATA OUT [STEPS]");
  return run(argv[1], argv[2], argc > 3 ? std::stoi(argv[3]) : 100);
} catch (std::exception const& failure) {
  std::fprintf(stderr, "libtorch: %s\n", failure.what());
  return 1;
}

// The main job: fine-tunes a small pre-trained vision transformer to new classes with every start the library knows,
// and shows what LoRA-GA does beside LoRA and full fine-tuning. See examples/run.sh.
#include <iostream>
#include <loraga/cpu.hpp>

#include "comparison.hpp"
#include "device_job.hpp"

namespace {

using namespace finetune;

void run(options const& o) {
  report const write = [&](laboratory const& lab) { o.sweeping ? sweep(lab, o) : compare(lab, o); };
  auto const make = [](int threads) { return std::make_unique<loraga::cpu>(threads); };
  if (o.device == "cpu") return run_job<loraga::cpu>(o, make, write);
#ifdef FINETUNE_WITH_CUDA
  run_job_on_cuda(o, write);
#else
  throw std::runtime_error(
      "--device cuda: this program was built without CUDA; build it with: bash examples/run.sh --device cuda, or "
      "cmake -DLORAGA_CUDA=ON");
#endif
}

}  // namespace

int main(int argc, char** argv) try {
  run(parse_options(argc, argv));
  return 0;
} catch (std::exception const& failure) {
  std::cerr << "finetune: " << failure.what() << '\n';
  return 1;
}

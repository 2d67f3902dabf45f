// The main job: fine-tunes a small pre-trained image classifier to new classes with every start the library knows, and
// shows what LoRA-GA does beside LoRA and full fine-tuning. See examples/run.sh.
#include <loraga/cpu.hpp>

#include "../training/plan.hpp"
#include "comparison.hpp"
#include "device_job.hpp"

namespace {

using namespace vision;

void run(options const& o) {
  training::job const work = [&](training::laboratory const& lab) {
    if (!o.plan.empty()) return training::run_plan(lab, o);
    o.sweeping ? sweep(lab, o) : compare(lab, o);
  };
  auto const make = [](int threads) { return std::make_unique<loraga::cpu>(threads); };
  if (o.device == "cpu") return run_job<loraga::cpu>(o, make, work);
#ifdef VISION_WITH_CUDA
  run_job_on_cuda(o, work);
#else
  training::refuse_device("bash examples/run.sh");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  return training::run_program("vision", [&] { run(parse_options(argc, argv)); });
}

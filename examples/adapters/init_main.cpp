// loraga_init: starts an adapter for a model on disk, for training in Python. See --help.
#include <loraga/cpu.hpp>

#include "command_line.hpp"
#include "init_job.hpp"

namespace {

using namespace adapters;

void print(init_options const& o, std::vector<layer_report> const& layers, std::vector<std::string> const& skipped) {
  for (auto const& module : skipped) std::printf("skipped: %s has no gradient\n", module.c_str());
  if (o.from_gradients()) {
    double sum = 0;
    layer_report const* least = &layers[0];
    std::printf("%-48s %15s %5s  %s\n", "module", "out x in", "r", "gradient energy in 2r directions");
    for (auto const& l : layers) {
      std::printf("%-48s %15s %5lld  %.4f\n", l.module.c_str(), shape_text(l.out, l.in).c_str(),
                  static_cast<long long>(l.rank), l.coverage);
      sum += l.coverage;
      if (l.coverage < least->coverage) least = &l;
    }
    std::printf("mean %.4f, least %.4f (%s)\n", sum / static_cast<double>(layers.size()), least->coverage,
                least->module.c_str());
  }
  std::printf("%s: %zu layers, r = %lld, s = %.6g", o.out.c_str(), layers.size(), static_cast<long long>(o.rank),
              layers[0].scale);
  if (o.anchored()) std::printf("; to be used on %s, not on the original base", o.anchored_base.c_str());
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  return run_main("loraga_init", [&] {
    auto const o = parse_init_options(argc, argv);
    watch_signals();
    loraga::cpu be = o.threads > 0 ? loraga::cpu(o.threads) : loraga::cpu();
    init_job job(be, o);
    auto const layers = job.run();
    print(o, layers, job.skipped());
    for (auto const& name : job.left_behind()) std::printf("not in the anchored base: %s\n", name.c_str());
  });
}

// loraga_init: starts an adapter for a model on disk, for training in Python. See --help.
#include "command_line.hpp"
#include "init_job.hpp"

namespace {

using namespace tools;

void print_coverage(std::vector<layer_report> const& layers) {
  if (std::isnan(layers[0].coverage)) return;
  double sum = 0;
  layer_report const* least = &layers[0];
  std::printf("%-48s %15s %5s  %s\n", "module", "out x in", "r", "coverage");
  for (auto const& l : layers) {
    std::printf("%-48s %15s %5lld  %.4f\n", l.module.c_str(), shape_text(l.out, l.in).c_str(),
                static_cast<long long>(l.rank), l.coverage);
    sum += l.coverage;
    if (l.coverage < least->coverage) least = &l;
  }
  std::printf("mean %.4f, least %.4f (%s)\n", sum / static_cast<double>(layers.size()), least->coverage,
              least->module.c_str());
}

void print(init_options const& o, init_job const& job, std::vector<layer_report> const& layers) {
  for (auto const& module : job.skipped())
    std::printf("skipped: %s has no %s\n", module.c_str(), o.needs_gradients() ? "gradient" : "inputs");
  for (auto const& module : job.rankless()) std::printf("skipped: %s gets no rank\n", module.c_str());
  print_coverage(layers);
  auto const [least, most] =
      std::minmax_element(layers.begin(), layers.end(), [](auto const& a, auto const& b) { return a.rank < b.rank; });
  index_t parameters = 0;
  for (auto const& l : layers) parameters += l.rank * (l.out + l.in);
  std::printf("%s: %s, %zu layers, r = %lld", o.out.c_str(), o.facts().name, layers.size(),
              static_cast<long long>(least->rank));
  if (least->rank != most->rank) std::printf(" to %lld", static_cast<long long>(most->rank));
  std::printf(", %lld parameters", static_cast<long long>(parameters));
  if (least->scale == most->scale) std::printf(", s = %.6g", least->scale);
  std::printf("\n");
  if (o.anchored()) std::printf("to be used on %s, not on the original base\n", o.anchored_base.c_str());
  if (o.facts().model == start_model::ahead) std::printf("on its base, the model starts one step ahead\n");
  if (o.method == start_method::lora_sb) std::printf("PEFT trains A and B, not R alone as LoRA-SB does\n");
  for (auto const& name : job.left_behind()) std::printf("not in the anchored base: %s\n", name.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return run_main("loraga_init", [&] {
    auto const o = parse_init_options(argc, argv);
    watch_signals();
    loraga::cpu be = o.threads > 0 ? loraga::cpu(o.threads) : loraga::cpu();
    init_job job(be, o);
    print(o, job, job.run());
  });
}

#include "comparison.hpp"
#include "report.hpp"

namespace finetune {

namespace {

/// Prints a method's line and returns its entry in the file of rates.
json best_rate(method const& m, std::vector<run_record> const& records) {
  run_record const* best = nullptr;
  json losses = json::object();
  std::printf("%-14s", m.name.c_str());
  for (auto const& r : records) {
    if (r.method != m.name) continue;
    char key[16];
    std::snprintf(key, sizeof key, "%.0e", r.rate);
    losses[key] = r.final_loss();
    std::printf(" %8.3f", r.final_loss());
    if (std::isfinite(r.final_loss()) && (!best || r.final_loss() < best->final_loss())) best = &r;
  }
  if (!best) throw std::runtime_error("--sweep: " + m.name + " diverged at every rate");
  std::printf(" %8.0e\n", best->rate);
  return {{"lr", best->rate}, {"validation_loss", losses}};
}

}  // namespace

void sweep(laboratory const& lab, options const& o) {
  auto quick = o.run;
  quick.evaluate_every = quick.steps;
  std::vector<planned_run> runs;
  for (auto const& m : o.methods)
    for (double const rate : o.grid) runs.push_back({m, rate, o.validation_seed});
  auto const records = lab.fine_tune(quick, runs);
  std::printf("\nvalidation loss after %lld steps, seed %llu\n%-14s", static_cast<long long>(o.run.steps),
              static_cast<unsigned long long>(o.validation_seed), "method");
  for (double const rate : o.grid) std::printf(" %8.0e", rate);
  std::printf("   chosen\n");
  json chosen = json::object();
  for (auto const& m : o.methods) chosen[m.name] = best_rate(m, records);
  json const all{{"steps", o.run.steps}, {"rank", o.run.rank},        {"alpha", o.run.alpha},
                 {"batch", o.run.batch}, {"seed", o.validation_seed}, {"validation_images", o.validation_images},
                 {"methods", chosen}};
  std::ofstream(o.rates) << all.dump(1) << '\n';
  std::printf("\nwritten to %s\n", o.rates.c_str());
}

}  // namespace finetune

#include "comparison.hpp"
#include "runs.hpp"

namespace vision {

namespace {

/// Prints a method's line and returns its entry in the file of rates.
json best_rate(std::string const& method, std::vector<finished_run> const& runs) {
  finished_run const* best = nullptr;
  json losses = json::object();
  std::printf("%-14s", method.c_str());
  for (auto const& r : runs) {
    if (r.spec.method != method) continue;
    char key[16];
    std::snprintf(key, sizeof key, "%.0e", r.spec.rate);
    losses[key] = r.final_loss();
    std::printf(" %8.3f", r.final_loss());
    if (std::isfinite(r.final_loss()) && (!best || r.final_loss() < best->final_loss())) best = &r;
  }
  if (!best) throw std::runtime_error("--sweep: " + method + " diverged at every rate");
  std::printf(" %8.0e\n", best->spec.rate);
  return {{"lr", best->spec.rate}, {"validation_loss", losses}};
}

}  // namespace

void sweep(laboratory const& lab, options const& o) {
  std::vector<train_spec> specs;
  for (auto const& name : o.methods)
    for (double const rate : o.grid) {
      specs.push_back(spec_of(o.run, name));
      auto& s = specs.back();
      s.part = "validation";
      s.rate = rate;
      s.seed = o.validation_seed;
      s.evaluate_every = s.steps;
    }
  auto const runs = run_store(lab, o.threads).get(specs);
  std::printf("\nvalidation loss after %lld steps, seed %llu\n%-14s", static_cast<long long>(o.run.steps),
              static_cast<unsigned long long>(o.validation_seed), "method");
  for (double const rate : o.grid) std::printf(" %8.0e", rate);
  std::printf("   chosen\n");
  json chosen = json::object();
  for (auto const& name : o.methods) chosen[name] = best_rate(name, runs);
  json const all{{"steps", o.run.steps}, {"rank", o.run.rank},        {"alpha", o.run.alpha},
                 {"batch", o.run.batch}, {"seed", o.validation_seed}, {"validation_images", o.validation_images},
                 {"methods", chosen}};
  write_whole(o.rates, all.dump(1) + '\n');
  std::printf("\nwritten to %s\n", o.rates.c_str());
}

}  // namespace vision

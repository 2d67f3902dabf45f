#include "comparison.hpp"

#include <chrono>
#include <loraga/diagnostics/spectrum.hpp>
#include <sstream>

#include "report.hpp"
#include "runs.hpp"

namespace vision {

namespace {

json read_json(std::string const& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  return json::parse(file);
}

/// Each method's own best rate, and the title of the panel that uses them.
struct best_rates {
  std::map<std::string, double> of;
  std::string title;

  explicit best_rates(options const& o)
      : title("(b) each method at its own best rate (chosen on validation images, " + o.rates + ")") {
    auto const file = read_json(o.rates);
    for (auto const& name : o.methods) {
      if (!file.at("methods").contains(name))
        throw std::runtime_error(o.rates + ": no rate for " + name +
                                 "; leave out panel b, or choose rates for these options: --sweep --rates FILE");
      of[name] = file.at("methods").at(name).at("lr").get<double>();
    }
    if (file.at("rank") != o.run.rank || file.at("alpha") != o.run.alpha || file.at("steps") != o.run.steps)
      title += ", for rank " + file.at("rank").dump() + ", alpha " + file.at("alpha").dump() + ", " +
               file.at("steps").dump() + " steps, not for these options";
  }
};

json empty_summary(options const& o) {
  return {{"settings",
           {{"device", o.device},
            {"rank", o.run.rank},
            {"alpha", o.run.alpha},
            {"steps", o.run.steps},
            {"batch", o.run.batch},
            {"seeds", o.seeds},
            {"held_out_images", o.held_out_images}}},
          {"panels", json::object()},
          {"coverage", json::object()},
          {"seconds", json::object()}};
}

/// The sampled gradient and first updates of the first seed.
json coverage_panel(laboratory const& lab, options const& o) {
  auto s = o.run;
  s.seed = o.seeds.front();
  s.rate = 1e-3;
  gradient_spec const sample{.set = s.set, .seed = s.seed, .sample = s.sample, .ranks = {s.rank}, .spectra = true};
  std::vector<layer_coverage> layers;
  for (auto const& l : lab.gradient(sample, 1))
    layers.push_back({l.name, l.out, l.in, std::min(s.rank, std::max<index_t>(1, std::min(l.out, l.in) / 2)),
                      l.coverage[0], loraga::effective_rank(l.spectrum)});
  std::vector<aligned_method> aligned;
  for (auto const& name : o.methods) {
    auto const update = lab.first_step(spec_of(s, name), 1);
    aligned.push_back({name, update.sgd, update.adamw});
  }
  print_coverage(layers, aligned);
  return coverage_json(layers, aligned);
}

}  // namespace

void compare(laboratory const& lab, options const& o) {
  auto const wanted = [&](char const* p) { return std::find(o.panels.begin(), o.panels.end(), p) != o.panels.end(); };
  std::optional<best_rates> best;  // looked up before anything runs or is overwritten
  if (wanted("b")) best.emplace(o);
  std::filesystem::create_directories(o.out);
  json summary = empty_summary(o);
  std::ostringstream csv;
  csv << "panel,method,lr,seed,step,loss\n";

  run_store store(lab, o.threads);  // panels share runs of the same rate
  auto const add_panel = [&](std::string const& name, std::string const& title, auto const& rate) {
    auto const began = std::chrono::steady_clock::now();
    std::vector<train_spec> specs;
    for (auto const seed : o.seeds)
      for (auto const& method : o.methods) {
        specs.push_back(spec_of(o.run, method));
        specs.back().rate = rate(method);
        specs.back().seed = seed;
      }
    auto const runs = store.get(specs);
    auto const rows = summarise(o.methods, runs);
    print_panel(title, rows);
    double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    std::printf("%.0f s\n", seconds);
    summary["seconds"][name] = seconds;
    summary["panels"][name] = panel_json(rows);
    append_curves(csv, name, runs);
  };
  if (wanted("a")) {
    char title[96];
    std::snprintf(title, sizeof title, "(a) one common rate, %.0e (the paper's protocol)", o.run.rate);
    add_panel("common", title, [&](std::string const&) { return o.run.rate; });
  }
  if (best) add_panel("best", best->title, [&](std::string const& name) { return best->of.at(name); });
  if (wanted("c")) summary["coverage"] = coverage_panel(lab, o);
  write_whole(o.out + "/curves.csv", csv.str());
  write_whole(o.out + "/summary.json", summary.dump(1) + '\n');
}

}  // namespace vision

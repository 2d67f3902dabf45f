#include "comparison.hpp"

#include <chrono>
#include <filesystem>
#include <optional>

#include "report.hpp"

namespace finetune {

namespace {

using rate_of = std::function<double(method const&)>;

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
    for (auto const& m : o.methods) {
      if (!file.at("methods").contains(m.name))
        throw std::runtime_error(o.rates + ": no rate for " + m.name +
                                 "; leave out panel b, or choose rates for these options: --sweep --rates FILE");
      of[m.name] = file.at("methods").at(m.name).at("lr").get<double>();
    }
    if (file.at("rank") != o.run.rank || file.at("alpha") != o.run.alpha || file.at("steps") != o.run.steps)
      title += ", for rank " + file.at("rank").dump() + ", alpha " + file.at("alpha").dump() + ", " +
               file.at("steps").dump() + " steps, not for these options";
  }
};

/// Runs by panel. Panels share runs of the same rate.
class run_store {
  laboratory const& lab_;
  options const& o_;
  std::vector<run_record> known_;

  run_record const* find(planned_run const& p) const {
    auto const found = std::find_if(known_.begin(), known_.end(), [&](run_record const& r) {
      return r.method == p.how.name && r.rate == p.rate && r.seed == p.seed;
    });
    return found == known_.end() ? nullptr : &*found;
  }

 public:
  run_store(laboratory const& lab, options const& o) : lab_(lab), o_(o) {}
  std::vector<run_record> panel(rate_of const& rate) {
    std::vector<planned_run> wanted, missing;
    for (auto const seed : o_.seeds)
      for (auto const& m : o_.methods) wanted.push_back({m, rate(m), seed});
    for (auto const& p : wanted)
      if (!find(p)) missing.push_back(p);
    auto const fresh = lab_.fine_tune(o_.run, missing);
    known_.insert(known_.end(), fresh.begin(), fresh.end());
    std::vector<run_record> records;
    for (auto const& p : wanted) records.push_back(*find(p));
    return records;
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

}  // namespace

void compare(laboratory const& lab, options const& o) {
  auto const wanted = [&](char const* p) { return std::find(o.panels.begin(), o.panels.end(), p) != o.panels.end(); };
  std::optional<best_rates> best;  // looked up before anything runs or is overwritten
  if (wanted("b")) best.emplace(o);
  std::filesystem::create_directories(o.out);
  json summary = empty_summary(o);
  std::ofstream csv(o.out + "/curves.csv");
  csv << "panel,method,lr,seed,step,loss\n";

  run_store store(lab, o);
  auto const add_panel = [&](std::string const& name, std::string const& title, rate_of const& rate) {
    auto const began = std::chrono::steady_clock::now();
    auto const records = store.panel(rate);
    auto const rows = summarise(o.methods, records);
    print_panel(title, rows);
    double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    std::printf("%.0f s\n", seconds);
    summary["seconds"][name] = seconds;
    summary["panels"][name] = panel_json(rows);
    append_curves(csv, name, records);
  };
  if (wanted("a")) {
    char title[96];
    std::snprintf(title, sizeof title, "(a) one common rate, %.0e (the paper's protocol)", o.rate);
    add_panel("common", title, [&](method const&) { return o.rate; });
  }
  if (best) add_panel("best", best->title, [&](method const& m) { return best->of.at(m.name); });
  if (wanted("c")) {
    auto const [layers, aligned] = lab.measure(o.methods);
    print_coverage(layers, aligned);
    summary["coverage"] = coverage_json(layers, aligned);
  }
  std::ofstream(o.out + "/summary.json") << summary.dump(1) << '\n';
}

}  // namespace finetune

#pragma once
#include "../training/statistics.hpp"

namespace vision {

using namespace training;

/// A run's place in a panel, and what became of it: nothing if it diverged.
struct finished_run {
  train_spec spec;
  std::optional<train_record> record;
  double final_loss() const { return record ? record->losses.back() : NAN; }
};

/// One row of a panel: a method's runs over the seeds.
struct row {
  std::string method;
  double rate = 0;
  index_t trainable = 0;
  spread init_seconds, steps_to_lora, final_loss, loss_minus_lora, accuracy;
};

/// Rows of a panel, in the methods' order. Steps are counted to the final loss of LoRA's run of the same seed, and
/// losses compared with it: seeds share head, batches and gradient sample over methods, so their differences vary less.
inline std::vector<row> summarise(std::vector<std::string> const& methods, std::vector<finished_run> const& runs) {
  std::map<std::uint64_t, double> lora_loss;
  for (auto const& r : runs)
    if (r.spec.method == "lora") lora_loss[r.spec.seed] = r.final_loss();
  std::vector<row> rows;
  for (auto const& m : methods) {
    row line;
    line.method = m;
    for (auto const& r : runs) {
      if (r.spec.method != m) continue;
      line.rate = r.spec.rate;
      if (r.record) line.trainable = r.record->trainable;
      line.init_seconds.add(r.record ? r.record->init_seconds : NAN);
      line.final_loss.add(r.final_loss());
      line.accuracy.add(r.record ? r.record->accuracy : NAN);
      if (auto const target = lora_loss.find(r.spec.seed); target != lora_loss.end()) {
        auto const steps = r.record ? r.record->steps_to(target->second) : -1;
        line.steps_to_lora.add(steps < 0 ? NAN : static_cast<double>(steps));
        line.loss_minus_lora.add(r.final_loss() - target->second);
      }
    }
    rows.push_back(line);
  }
  return rows;
}

/// How much of a layer's gradient its adapter can see: panel (c), first half.
struct layer_coverage {
  std::string name;
  index_t out, in, rank;
  double coverage, effective_rank;
};
/// Panel (c), second half.
struct aligned_method {
  std::string method;
  std::vector<double> sgd, adamw;  // per layer
};

inline void print_panel(std::string const& title, std::vector<row> const& rows) {
  std::printf("\n%s; mean ± sd of %zu seeds\n%-14s %8s %9s %7s  %-14s %-15s %-16s %s\n", title.c_str(),
              rows.empty() ? 0 : rows[0].final_loss.values.size(), "method", "rate", "trainable", "init s",
              "steps to LoRA", "final loss", "minus LoRA's", "test accuracy");
  for (auto const& r : rows)
    std::printf("%-14s %8.0e %9lld %7.2f  %-14s %-16s %-17s %s\n", r.method.c_str(), r.rate,
                static_cast<long long>(r.trainable), r.init_seconds.average(), r.steps_to_lora.text(1).c_str(),
                r.final_loss.text(3).c_str(), r.loss_minus_lora.text(3).c_str(), r.accuracy.text(3).c_str());
  std::fflush(stdout);
}

inline json panel_json(std::vector<row> const& rows) {
  json panel = json::array();
  for (auto const& r : rows)
    panel.push_back({{"name", r.method},
                     {"lr", r.rate},
                     {"trainable", r.trainable},
                     {"init_seconds", r.init_seconds.average()},
                     {"steps_to_lora_loss", r.steps_to_lora.to_json()},
                     {"final_loss", r.final_loss.to_json()},
                     {"loss_minus_lora", r.loss_minus_lora.to_json()},
                     {"test_accuracy", r.accuracy.to_json()}});
  return panel;
}

inline void print_coverage(std::vector<layer_coverage> const& layers, std::vector<aligned_method> const& methods) {
  std::printf("\n(c) What the sampled gradient holds, and where first updates point\n%-26s %9s %5s %12s %15s\n",
              "layer", "out x in", "rank", "coverage(2r)", "effective rank");
  for (auto const& l : layers)
    std::printf("%-26s %4lldx%-4lld %5lld %12.4f %15.1f\n", l.name.c_str(), static_cast<long long>(l.out),
                static_cast<long long>(l.in), static_cast<long long>(l.rank), l.coverage, l.effective_rank);
  std::printf(
      "\ncosine of the first update with minus the gradient of a fresh sample, mean (min) over layers\n%-14s %16s "
      "%16s\n",
      "method", "SGD", "AdamW");
  auto const least = [](std::vector<double> const& v) { return *std::min_element(v.begin(), v.end()); };
  for (auto const& m : methods)
    std::printf("%-14s   %.3f (%.3f)   %6.3f (%.3f)\n", m.method.c_str(), mean(m.sgd), least(m.sgd), mean(m.adamw),
                least(m.adamw));
}

inline json coverage_json(std::vector<layer_coverage> const& layers, std::vector<aligned_method> const& methods) {
  json rows = json::array(), aligned = json::array();
  std::vector<double> shares;
  for (auto const& l : layers) {
    shares.push_back(l.coverage);
    rows.push_back({{"name", l.name},
                    {"out", l.out},
                    {"in", l.in},
                    {"rank", l.rank},
                    {"coverage_2r", l.coverage},
                    {"effective_rank", l.effective_rank}});
  }
  auto const summary = [](std::vector<double> const& v) {
    return json{{"mean", mean(v)}, {"min", *std::min_element(v.begin(), v.end())}};
  };
  for (auto const& m : methods)
    aligned.push_back({{"name", m.method}, {"sgd", summary(m.sgd)}, {"adamw", summary(m.adamw)}});
  json result = summary(shares);
  result["layers"] = rows;
  result["first_update_cosine"] = aligned;
  return result;
}

inline void append_curves(std::ostream& csv, std::string const& panel, std::vector<finished_run> const& runs) {
  for (auto const& r : runs)
    for (std::size_t i = 0; r.record && i < r.record->steps.size(); ++i)
      csv << panel << ',' << r.spec.method << ',' << r.spec.rate << ',' << r.spec.seed << ',' << r.record->steps[i]
          << ',' << r.record->losses[i] << '\n';
}

}  // namespace vision

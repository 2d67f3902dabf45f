#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "records.hpp"

namespace finetune {

using json = nlohmann::ordered_json;

inline double mean(std::vector<double> const& x) {
  double sum = 0;
  for (double const v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

/// Mean and standard deviation over seeds. A missing value (NaN: never reached, diverged) makes both null.
struct spread {
  std::vector<double> values;
  std::ptrdiff_t present() const {
    return std::count_if(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
  }
  bool complete() const { return !values.empty() && present() == std::ssize(values); }
  double average() const { return mean(values); }
  double deviation() const {
    if (values.size() < 2) return 0;
    double sum = 0;
    for (double const v : values) sum += (v - average()) * (v - average());
    return std::sqrt(sum / static_cast<double>(values.size() - 1));
  }
  json to_json() const {
    json all = json::array();
    for (double const v : values) all.push_back(std::isfinite(v) ? json(v) : json(nullptr));
    if (!complete()) return {{"mean", nullptr}, {"sd", nullptr}, {"values", all}};
    return {{"mean", average()}, {"sd", deviation()}, {"values", all}};
  }
  std::string text(int digits) const {
    char line[64];
    if (values.empty()) return "-";
    if (!complete()) {
      std::snprintf(line, sizeof line, "in %ld of %zu", static_cast<long>(present()), values.size());
      return line;
    }
    std::snprintf(line, sizeof line, "%.*f ± %.*f", digits, average(), digits, deviation());
    return line;
  }
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
inline std::vector<row> summarise(std::vector<method> const& methods, std::vector<run_record> const& runs) {
  std::map<std::uint64_t, double> lora_loss;
  for (auto const& r : runs)
    if (r.method == "lora") lora_loss[r.seed] = r.final_loss();
  std::vector<row> rows;
  for (auto const& m : methods) {
    row line;
    line.method = m.name;
    for (auto const& r : runs) {
      if (r.method != m.name) continue;
      line.rate = r.rate;
      line.trainable = r.trainable;
      line.init_seconds.values.push_back(r.init_seconds);
      line.final_loss.values.push_back(r.final_loss());
      line.accuracy.values.push_back(r.accuracy);
      if (auto const target = lora_loss.find(r.seed); target != lora_loss.end()) {
        auto const steps = r.steps_to(target->second);
        line.steps_to_lora.values.push_back(steps < 0 ? NAN : static_cast<double>(steps));
        line.loss_minus_lora.values.push_back(r.final_loss() - target->second);
      }
    }
    rows.push_back(line);
  }
  return rows;
}

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

inline void print_coverage(std::vector<layer_coverage> const& layers, std::vector<method_alignment> const& methods) {
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

inline json coverage_json(std::vector<layer_coverage> const& layers, std::vector<method_alignment> const& methods) {
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

inline void append_curves(std::ofstream& csv, std::string const& panel, std::vector<run_record> const& runs) {
  for (auto const& r : runs)
    for (std::size_t i = 0; i < r.steps.size(); ++i)
      csv << panel << ',' << r.method << ',' << r.rate << ',' << r.seed << ',' << r.steps[i] << ',' << r.losses[i]
          << '\n';
}

}  // namespace finetune

#pragma once
#include <cstdio>
#include <iomanip>
#include <set>
#include <sstream>

#include "plan_options.hpp"

// Predictions as a table to read, and as JSON.

namespace tools::plan {

/// "12.3 GB": three digits and a thousand's power.
inline std::string scaled(double value, char const* unit) {
  if (value == 0) return "0";
  static constexpr char const* prefixes[] = {"", "k", "M", "G", "T", "P", "E", "Z", "Y"};
  int power = 0;
  while (value >= 999.5 && power < 8) value /= 1000, ++power;
  char text[40];
  std::snprintf(text, sizeof text,
                value < 9.995   ? "%.2f %s%s"
                : value < 99.95 ? "%.1f %s%s"
                                : "%.0f %s%s",
                value, prefixes[power], unit);
  return text;
}
inline std::string duration(double seconds) {
  char text[40];
  auto const say = [&](double value, char const* unit) {
    std::snprintf(text, sizeof text, value < 9.995 ? "%.2f %s" : value < 99.95 ? "%.1f %s" : "%.0f %s", value, unit);
    return std::string(text);
  };
  if (seconds == 0) return "0";
  if (seconds < 1e-3) return say(1e6 * seconds, "us");
  if (seconds < 1) return say(1e3 * seconds, "ms");
  if (seconds < 120) return say(seconds, "s");
  if (seconds < 7200) return say(seconds / 60, "min");
  if (seconds < 172800) return say(seconds / 3600, "h");
  if (seconds < 86400e5) return say(seconds / 86400, "days");
  std::snprintf(text, sizeof text, "%.2e days", seconds / 86400);
  return text;
}
inline std::string percent(double share) {
  char text[40];
  std::snprintf(text, sizeof text, share >= 0.1 ? "%.0f %%" : "%.2g %%", 100 * share);
  return text;
}
inline std::string whole(double n) { return scaled(n, "").substr(0, scaled(n, "").find_last_not_of(' ') + 1); }
inline std::string counted(double n) {
  if (n >= 1e6) return whole(n);
  char text[40];
  std::snprintf(text, sizeof text, "%.0f", n);
  return text;
}

inline std::string counted_things(index_t n, std::string const& what) {
  return std::to_string(n) + (what.empty() ? "" : " " + what + (n == 1 ? "" : "s"));
}

/// Rows of words under headings, set in columns as wide as they need.
class table {
  std::vector<std::vector<std::string>> rows_;

 public:
  explicit table(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print(std::ostream& out) const {
    std::vector<std::size_t> widths(rows_[0].size(), 0);
    for (auto const& r : rows_)
      for (std::size_t i = 0; i < r.size(); ++i) widths[i] = std::max(widths[i], r[i].size());
    for (auto const& r : rows_) {
      for (std::size_t i = 0; i < r.size(); ++i)
        out << (i > 0 ? "  " : "") << (i == 1 ? std::left : std::right) << std::setw(static_cast<int>(widths[i]))
            << r[i];
      out << '\n';
    }
  }
};

/// All predictions, by ranks and accumulators in the order asked for.
inline std::vector<prediction> predict_all(plan_options const& o) {
  std::vector<prediction> all;
  for (int const n : o.ranks)
    for (auto const a : o.accumulators) all.push_back(predict(o.model, o.settings, o.machine, a, n));
  return all;
}

inline void print_assumptions(plan_options const& o, std::ostream& out) {
  auto const& s = o.settings;
  auto const& m = o.machine;
  double adapters = 0;
  for (auto const& l : o.model.layers) adapters += adapter_numbers(l, s);
  double const weights = o.model.stored_bytes > 0 ? o.model.stored_bytes : o.model.parameters * s.weight_bits / 8;
  out << o.model.name << ": " << counted(o.model.parameters) << " parameters, " << scaled(weights, "B") << "; "
      << counted_things(static_cast<index_t>(o.model.layers.size()), "layer")
      << (o.model.layers.size() == 1 ? " gets an adapter of rank " : " get adapters of rank ") << s.rank << ", "
      << counted(adapters) << " parameters; estimates keep " << (s.width > 0 ? s.width : 4 * s.rank) << " triplets\n"
      << (o.measure ? "A rank, measured here: " : "A rank, as given or assumed: ") << scaled(m.flops, "FLOP/s") << " ("
      << scaled(m.thin(), "FLOP/s") << " with thin matrices, " << scaled(m.in_double(), "FLOP/s") << " in double, "
      << scaled(m.small_flops, "FLOP/s") << " with small ones), memory " << scaled(m.memory_bandwidth, "B/s")
      << "\nNetwork, as given or assumed: " << scaled(m.bandwidth, "B/s") << " and " << duration(m.latency)
      << " a message; bus " << scaled(m.bus_bandwidth, "B/s") << '\n';
}

/// One line where ranks have no micro-batch, or where their parts of layers are not equal.
inline void print_uneven(plan_options const& o, std::ostream& out) {
  auto const& s = o.settings;
  std::string uneven;
  index_t last = 0;
  for (int const n : std::set<int>(o.ranks.begin(), o.ranks.end())) {
    auto const cut = std::count_if(o.model.layers.begin(), o.model.layers.end(),
                                   [&](auto const& l) { return (l.by_columns ? l.in : l.out) % n != 0; });
    index_t const some = s.split == split_by::data ? std::max<index_t>(0, n - s.batches) : cut;
    if (some == 0) continue;
    uneven += (uneven.empty() ? "" : ", ") + std::string(s.split == split_by::data ? "of " : "on ") +
              std::to_string(n) + " ranks " + counted_things(some, s.split == split_by::data ? "" : "layer");
    last = some;
  }
  if (uneven.empty()) return;
  bool const one = last == 1 && uneven.find(',') == uneven.npos;
  if (s.split == split_by::data)
    out << uneven << (one ? " has" : " have") << " no micro-batch: --batches is " << s.batches << '\n';
  else out << uneven << (one ? " has" : " have") << " parts that are not equal: the largest count\n";
}

inline void print(plan_options const& o, std::vector<prediction> const& all, std::ostream& out) {
  auto const& s = o.settings;
  print_assumptions(o, out);
  out << "\nEstimate: " << s.batches << (s.batches == 1 ? " micro-batch" : " micro-batches") << " of "
      << counted_things(s.tokens, "token") << ", "
      << (s.split == split_by::data ? "shared by all ranks" : "of which every rank sees all") << "; one rank's\n";
  int last = 0;
  auto const ranks = [&](prediction const& p) {
    return std::exchange(last, p.ranks) == p.ranks ? "" : std::to_string(p.ranks);
  };
  auto const kept = [](phase const& p) {
    return p.on_host > 0 ? scaled(p.on_host, "B") + " host" : scaled(p.kept, "B");
  };
  table estimate({"ranks", "accumulator", "passes", "keeps", "scratch", "with model", "work", "sends", "of dense",
                  "messages", "meetings", "time"});
  for (auto const& p : all)
    estimate.add(
        {ranks(p), name_of(p.accumulator), counted(p.estimate.passes), kept(p.estimate),
         scaled(p.estimate.scratch, "B"), scaled(p.weights + p.adapters + p.estimate.kept + p.estimate.scratch, "B"),
         scaled(p.estimate.flop, "FLOP"), scaled(p.estimate.network.sent, "B"),
         p.dense_sent > 0 ? percent(p.estimate.network.sent / p.dense_sent) : "-", counted(p.estimate.network.count()),
         counted(p.estimate.network.meetings), duration(p.estimate.seconds())});
  estimate.print(out);
  print_uneven(o, out);

  out << "\nStart: LoRA-GA's, of statistics EVA's; one rank's\n";
  last = 0;
  table start(
      {"ranks", "accumulator", "passes", "scratch", "with model", "work", "sends", "messages", "meetings", "time"});
  for (auto const& p : all)
    start.add({ranks(p), name_of(p.accumulator), counted(p.start.passes), scaled(p.start.scratch, "B"),
               scaled(p.weights + p.adapters + p.estimate.kept + p.start.kept + p.start.scratch, "B"),
               scaled(p.start.flop, "FLOP"), scaled(p.start.network.sent, "B"), counted(p.start.network.count()),
               counted(p.start.network.meetings), duration(p.start.seconds())});
  start.print(out);

  out << "\nTraining: " << counted_things(s.steps, "step") << " of " << counted_things(s.step_tokens, "token") << " "
      << (s.split == split_by::data ? "of all ranks" : "that every rank sees") << "; one rank's, of a step\n";
  table training({"ranks", "memory", "with model", "work", "sends", "messages", "meetings", "time", "all steps"});
  last = 0;
  for (auto const& p : all) {
    if (p.ranks == std::exchange(last, p.ranks)) continue;
    training.add({std::to_string(p.ranks), scaled(p.adapters + p.step.kept + p.step.scratch, "B"),
                  scaled(p.weights + p.adapters + p.step.kept + p.step.scratch, "B"), scaled(p.step.flop, "FLOP"),
                  scaled(p.step.network.sent, "B"), counted(p.step.network.count()), counted(p.step.network.meetings),
                  duration(p.step.seconds()), duration(p.training_seconds)});
  }
  training.print(out);
  out << "\nPredicted, not measured. Activations are in no memory";
  if (s.split == split_by::tensor) out << ", and the model's own sums of activations in no traffic";
  out << "; --help says what is counted.\n";
}

inline nlohmann::ordered_json as_json(phase const& p) {
  return {{"kept_bytes", p.kept},
          {"host_bytes", p.on_host},
          {"scratch_bytes", p.scratch},
          {"flop", p.flop},
          {"passes", p.passes},
          {"sent_bytes", p.network.sent},
          {"all_reduces", p.network.all_reduces},
          {"broadcasts", p.network.broadcasts},
          {"exchanges", p.network.exchanges},
          {"meetings", p.network.meetings},
          {"compute_seconds", p.compute_seconds},
          {"network_seconds", p.network_seconds},
          {"seconds", p.seconds()}};
}
/// Everything that was assumed and predicted, in bytes, operations and seconds.
inline nlohmann::ordered_json as_json(plan_options const& o, std::vector<prediction> const& all) {
  auto const& s = o.settings;
  auto const& m = o.machine;
  nlohmann::ordered_json json{{"model",
                               {{"name", o.model.name},
                                {"parameters", o.model.parameters},
                                {"active_parameters", o.model.active},
                                {"stored_bytes", o.model.stored_bytes},
                                {"layers", o.model.layers.size()}}},
                              {"settings",
                               {{"rank", s.rank},
                                {"width", s.width > 0 ? s.width : 4 * s.rank},
                                {"power_steps", s.power_steps},
                                {"tokens", s.tokens},
                                {"batches", s.batches},
                                {"steps", s.steps},
                                {"step_tokens", s.step_tokens},
                                {"split", s.split == split_by::data ? "data" : "tensor"},
                                {"weight_bits", s.weight_bits},
                                {"bucket_bytes", s.bucket_bytes}}},
                              {"machine",
                               {{"measured", o.measure},
                                {"flops", m.flops},
                                {"thin_flops", m.thin()},
                                {"double_flops", m.in_double()},
                                {"small_flops", m.small_flops},
                                {"memory_bandwidth", m.memory_bandwidth},
                                {"bandwidth", m.bandwidth},
                                {"latency", m.latency},
                                {"bus_bandwidth", m.bus_bandwidth}}},
                              {"predictions", nlohmann::ordered_json::array()}};
  for (auto const& p : all) {
    auto estimate = as_json(p.estimate);
    estimate["base_seconds"] = p.base_seconds;
    estimate["of_dense_traffic"] =
        p.dense_sent > 0 ? nlohmann::ordered_json(p.estimate.network.sent / p.dense_sent) : nullptr;
    json["predictions"].push_back({{"ranks", p.ranks},
                                   {"accumulator", name_of(p.accumulator)},
                                   {"weight_bytes", p.weights},
                                   {"adapter_bytes", p.adapters},
                                   {"estimate", estimate},
                                   {"start", as_json(p.start)},
                                   {"step", as_json(p.step)},
                                   {"training_seconds", p.training_seconds}});
  }
  return json;
}

}  // namespace tools::plan

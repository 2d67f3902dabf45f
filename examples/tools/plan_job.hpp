#pragma once
#include "plan_measure.hpp"
#include "plan_plot.hpp"

namespace tools {

/// Predicts, prints the table, and writes what was asked for.
/// errors  file_error, error where gnuplot is missing
inline void run_plan(plan_options o, std::ostream& out) {
  for (auto const& path : {o.json, o.plot})
    if (!path.empty()) output_file const probe(path, o.may_replace);  // refused before anything is printed
  if (o.measure) {
    cpu be = o.threads > 0 ? cpu(o.threads) : cpu();
    plan::measure(be, o.machine);
  }
  auto const all = plan::predict_all(o);
  plan::print(o, all, out);
  if (!o.json.empty()) {
    output_file file(o.json, o.may_replace);
    file.write(0, plan::as_json(o, all).dump(2) + "\n");
    file.commit();
  }
  if (!o.plot.empty()) plan::draw(o, all);
}

}  // namespace tools

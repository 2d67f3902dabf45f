#pragma once
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "plan_table.hpp"

// Predictions as a picture, by gnuplot.

namespace tools::plan {

/// A folder that goes again.
class temporary_folder {
  std::filesystem::path path_;

 public:
  temporary_folder() {
    auto name = (std::filesystem::temp_directory_path() / "loraga_plan.XXXXXX").string();
    if (!mkdtemp(name.data())) raise_file_error("loraga_plan", name, errno);
    path_ = name;
  }
  temporary_folder(temporary_folder const&) = delete;
  temporary_folder& operator=(temporary_folder const&) = delete;
  ~temporary_folder() {
    std::error_code gone;
    std::filesystem::remove_all(path_, gone);
  }
  std::filesystem::path operator/(char const* name) const { return path_ / name; }
};

/// A panel's numbers against ranks, one block for each accumulator, or `value` of one alone. Zeros cannot be drawn on a
/// logarithmic axis.
template <class F>
bool write_panel(std::ostream& out, std::string const& name, plan_options const& o, std::vector<prediction> const& all,
                 F const& value) {
  bool any = false;
  for (auto const a : o.accumulators) {
    out << "$" << name << "_" << name_of(a) << " << EOD\n";
    for (auto const& p : all)
      if (p.accumulator == a && value(p) > 0) out << p.ranks << ' ' << value(p) << '\n', any = true;
    out << "EOD\n";
  }
  return any;
}

/// What gnuplot is told.
inline std::string plot_script(plan_options const& o, std::vector<prediction> const& all) {
  std::ostringstream out, panels;
  int count = 0;
  auto const panel = [&](std::string const& name, std::string const& title, std::string const& unit,
                         auto const& value) {
    if (!write_panel(out, name, o, all, value)) return;
    ++count;
    panels << "set title '" << title << "'\nset ylabel '" << unit << "'\nplot ";
    bool first = true;
    for (auto const a : o.accumulators) {
      auto const block = name + "_" + name_of(a);
      // an empty block would end the picture
      bool some = false;
      for (auto const& p : all) some = some || (p.accumulator == a && value(p) > 0);
      if (!some) continue;
      panels << (first ? "" : ", ") << "$" << block << " using 1:2 with linespoints linewidth 2 linetype "
             << static_cast<int>(a) + 1 << " title '" << name_of(a) << "'";
      first = false;
    }
    panels << "\n";
  };
  auto const bytes = std::string("bytes of one rank");
  panel("memory", "memory of the estimate, beside model and activations", bytes,
        [](prediction const& p) { return p.estimate.kept + p.estimate.scratch; });
  panel("traffic", "the estimate sends", bytes, [](prediction const& p) { return p.estimate.network.sent; });
  panel("estimate", "time of the estimate", "seconds", [](prediction const& p) { return p.estimate.seconds(); });
  panel("start", "time of the start", "seconds", [](prediction const& p) { return p.start.seconds(); });
  std::ostringstream script;
  script << out.str() << "set terminal pngcairo size 1400," << (count > 2 ? 1050 : 525) << " font 'sans,11'\n"
         << "set output 'plan.png'\nset logscale x 2\nset logscale y\nset format y '10^{%T}'\nset grid\n"
         << "set xlabel 'ranks'\nset key outside right top\nset linetype 5 lc rgb 'black'\n"
         << "set linetype 8 lc rgb '#8a2be2'\nset offsets graph 0.02, graph 0.02\n"
         << "set multiplot layout " << (count + 1) / 2 << ",2\n"
         << panels.str() << "unset multiplot\n";
  return script.str();
}

/// Draws the picture. The file must not be there unless it may be replaced.
/// errors  file_error; error where gnuplot is missing or fails
inline void draw(plan_options const& o, std::vector<prediction> const& all) {
  output_file picture(o.plot, o.may_replace);
  temporary_folder const folder;
  std::ofstream(folder / "plan.gp") << plot_script(o, all);
  auto const quoted = "'" + (folder / "").string() + "'";
  int const status = std::system(("cd " + quoted + " && gnuplot plan.gp > said 2>&1").c_str());
  int const rc = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (rc == 127)
    throw error("--plot: gnuplot is not installed (gnuplot-nox of Debian); the table and --json need none");
  std::error_code unknown;
  if (rc != 0 || !std::filesystem::exists(folder / "plan.png", unknown))
    throw error("--plot: gnuplot failed: " + read_text(folder / "said"));
  auto const bytes = read_text(folder / "plan.png");
  picture.write(0, bytes);
  picture.commit();
}

}  // namespace tools::plan

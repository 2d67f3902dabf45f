#include "plan_options.hpp"

#include "command_line.hpp"
#include "plan_manual.hpp"

namespace tools {

namespace {

struct plan_command_line {
  plan_options o;
  std::string model, family;
  std::vector<std::string> targets, excluded, accumulators;
  index_t active_experts = 0;
  double bytes_per_number = 0, bits = 0;
  bool replace = false;
  CLI::App app;

  void group(char const* name, std::vector<CLI::Option*> const& options) {
    for (auto* option : options) option->group(name);
  }
  template <class T>
  CLI::Option* number(char const* name, T& value, char const* help) {
    return app.add_option(name, value, help)->capture_default_str()->type_name("NUMBER");
  }
  /// A constant of the machine, of which the default follows from others where it is 0.
  CLI::Option* constant(char const* name, double& value, char const* help) {
    auto* const option = app.add_option(name, value, help)->type_name("NUMBER");
    if (value > 0) {
      std::ostringstream text;
      text << value;
      option->default_str(text.str());
    }
    return option;
  }

  void add_model() {
    app.add_option("MODEL", model, "a name, files or shapes: see MODELS")->required();
    auto* const preset = app.add_option("--family", family, "all linear layers of such a model get adapters")
                             ->check(CLI::IsMember({"llama", "qwen", "gpt2", "bert", "t5"}));
    auto* const named = app.add_option("--target-modules", targets,
                                       "names or their ends (default: those of a llama, and w1, w2, w3 of experts)");
    auto* const without = app.add_option("--exclude", excluded, "the same for modules to leave out");
    auto* const experts =
        number("--active-experts", active_experts, "experts that work for a token, where config.json does not say it");
    experts->default_str("")->check(CLI::Range(index_t{1}, index_t{1000000}));
    auto* const bytes = app.add_option("--bytes-per-number", bytes_per_number,
                                       "of the base's weights (default: as its files have them, else 2)")
                            ->check(positive_number())
                            ->type_name("NUMBER");
    auto* const packed =
        app.add_option("--bits", bits, "the same of a quantised base")->check(positive_number())->type_name("NUMBER");
    packed->excludes(bytes);
    named->excludes(preset);
    for (auto* option : {named, without}) option->type_name("NAME...");
    group("Model", {preset, named, without, experts, bytes, packed});
  }

  void add_run() {
    auto& s = o.settings;
    auto* const ranks =
        app.add_option("--ranks", o.ranks, "how many ranks, one or more numbers (default: 1 2 8 64 1024)");
    ranks->type_name("NUMBER...");
    auto* const split =
        add_choice(app, "--split", s.split, {{"data", plan::split_by::data}, {"tensor", plan::split_by::tensor}},
                   "whether ranks have micro-batches of their own, or parts of every layer");
    std::vector<std::string> known;
    for (auto const& [name, a] : plan::accumulators()) known.push_back(name);
    auto* const which =
        app.add_option("--accumulators", accumulators, "see ACCUMULATORS (default: all that --split allows)")
            ->check(CLI::IsMember(known));
    which->type_name("NAME...");
    group("Run", {ranks, split, which, number("--rank", s.rank, "of adapters"),
                  number("--width", s.width, "triplets that estimates keep; 0: four times the rank"),
                  number("--power-steps", s.power_steps, "of gradient_options"),
                  number("--tokens", s.tokens, "of a micro-batch"),
                  number("--batches", s.batches, "micro-batches of the estimate, which ranks share"),
                  number("--steps", s.steps, "of the training"),
                  number("--step-tokens", s.step_tokens, "of a step, which ranks share"),
                  number("--bucket", s.bucket_bytes, "bytes of a message at most")});
  }

  void add_machine() {
    auto& m = o.machine;
    auto* const measure =
        app.add_flag("--measure", o.measure,
                     "measure products and memory on this machine's CPU, in about a second; the network "
                     "is as given or assumed");
    std::vector<CLI::Option*> const measured{
        constant("--flops", m.flops, "operations a second of large products, per rank"),
        constant("--thin-flops", m.thin_flops, "of products with a side of at most 128 (default: as --flops)"),
        constant("--double-flops", m.double_flops, "of Gram matrices in double (default: a tenth of --flops)"),
        constant("--small-flops", m.small_flops, "of factorisations of a few dozen rows"),
        constant("--memory-bandwidth", m.memory_bandwidth, "bytes a second of a rank's memory")};
    for (auto* option : measured) option->excludes(measure);
    auto* const threads =
        app.add_option("--threads", o.threads, "of a rank that --measure looks at (default: one per core)")
            ->check(CLI::PositiveNumber)
            ->type_name("NUMBER");
    threads->needs(measure);
    auto all = measured;
    all.insert(all.end(), {measure, threads, constant("--bandwidth", m.bandwidth, "bytes a second that a rank sends"),
                           constant("--latency", m.latency, "seconds of a message from one rank to another"),
                           constant("--bus", m.bus_bandwidth, "bytes a second between device and host")});
    group("Machine, of one rank", all);
  }

  plan_command_line() {
    set_manual(app, plan_manual());
    add_model();
    add_run();
    add_machine();
    auto* const json = app.add_option("--json", o.json, "writes all numbers, in SI units");
    auto* const plot = app.add_option("--plot", o.plot, "draws a picture (PNG) with gnuplot");
    json->type_name("FILE"), plot->type_name("FILE");
    group("Files", {json, plot, app.add_flag("--overwrite", replace, "replace files that are there")});
  }

  module_selection selection() const {
    module_selection s;
    s.names = targets;
    s.excluded = excluded;
    if (!family.empty()) s.names = preset_of(family).names;
    return s;
  }

  /// errors  value_error, and those of the model's files
  plan_options checked() {
    o.may_replace = replace ? overwrite::yes : overwrite::no;
    if (!o.json.empty() && o.json == o.plot)
      raise<value_error>("loraga_plan", "--plot", "'" + o.plot.string() + "', as --json is", "another file");
    if (o.ranks.empty()) o.ranks = {1, 2, 8, 64, 1024};
    if (bits > 0) o.settings.weight_bits = bits;
    if (bytes_per_number > 0) o.settings.weight_bits = 8 * bytes_per_number;
    for (auto const& [name, a] : plan::accumulators()) {
      bool const asked = std::find(accumulators.begin(), accumulators.end(), name) != accumulators.end();
      bool const fits = o.settings.split == plan::split_by::data || plan::joins_parts(a);
      if (accumulators.empty() ? fits : asked) o.accumulators.push_back(a);
    }
    o.model = plan::find_model(model, selection(), !family.empty(), active_experts);
    if (bits > 0 || bytes_per_number > 0) o.model.stored_bytes = 0;
    for (int const n : o.ranks)
      for (auto const a : o.accumulators) plan::require_possible(o.model, o.settings, o.machine, a, n);
    return std::move(o);
  }
};

}  // namespace

plan_options read_plan_options(int argc, char const* const* argv) {
  plan_command_line line;
  line.app.parse(argc, argv);
  return line.checked();
}

plan_options parse_plan_options(int argc, char const* const* argv) {
  plan_command_line line;
  parse_or_exit(line.app, argc, argv);
  try {
    return line.checked();
  } catch (value_error const& e) {
    std::cerr << e.what() << "\nRun with --help for more information.\n";
    std::exit(2);
  }
}

}  // namespace tools

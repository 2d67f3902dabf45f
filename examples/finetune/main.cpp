// The main job: fine-tunes a small pre-trained vision transformer to new classes with every start the library knows,
// and shows what LoRA-GA does beside LoRA and full fine-tuning. See examples/run.sh.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <loraga/cpu.hpp>
#include <thread>

#include "checkpoint.hpp"
#include "jobs.hpp"
#include "report.hpp"

namespace {

using namespace finetune;
using backend = loraga::cpu;

struct options {
  std::string data = "data", cache = "cache", out = "out/finetune", rates;
  settings run;
  std::vector<std::uint64_t> seeds{1, 2, 3};
  std::vector<double> gammas{64, 16};
  double rate = 1e-3;
  std::vector<std::string> methods, panels{"a", "b", "c"};
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  index_t pretrain_steps = 500, held_out_images = 2000, validation_images = 2000;
  std::uint64_t validation_seed = 100;
  std::vector<double> grid{3e-4, 1e-3, 3e-3, 1e-2, 3e-2};
};

/// Runs every (method, rate, seed) on the board, each on a one-threaded backend of its worker.
std::vector<run_record> run_all(job_board& board, task<backend> const& t, settings const& s,
                                std::vector<std::tuple<method, double, std::uint64_t>> const& runs) {
  std::vector<run_record> records(runs.size());
  std::vector<std::unique_ptr<backend>> backends;
  for (int i = 0; i < board.threads(); ++i) backends.push_back(std::make_unique<backend>(1));
  board.run(runs.size(), [&](std::size_t i, int worker) {
    auto const& [how, rate, seed] = runs[i];
    char name[96];
    std::snprintf(name, sizeof name, "%s rate %.0e seed %llu", how.name.c_str(), rate,
                  static_cast<unsigned long long>(seed));
    records[i] = fine_tune(*backends[static_cast<std::size_t>(worker)], t, how, rate, seed, s,
                           [&](index_t step, double loss) { board.update(name, step, loss); });
    char end[32];
    std::snprintf(end, sizeof end, ": loss %.3f", records[i].final_loss());
    board.finished(name + std::string(end));
  });
  return records;
}

json read_json(std::string const& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  return json::parse(file);
}

/// Chooses each method's rate by its final loss on validation images of one held-out seed.
void sweep(job_board& board, task<backend> const& t, options const& o, std::vector<method> const& methods) {
  auto quick = o.run;
  quick.evaluate_every = quick.steps;
  std::vector<std::tuple<method, double, std::uint64_t>> runs;
  for (auto const& m : methods)
    for (double const rate : o.grid) runs.emplace_back(m, rate, o.validation_seed);
  auto const records = run_all(board, t, quick, runs);
  json chosen = json::object();
  std::printf("\nvalidation loss after %lld steps, seed %llu\n%-14s", static_cast<long long>(o.run.steps),
              static_cast<unsigned long long>(o.validation_seed), "method");
  for (double const rate : o.grid) std::printf(" %8.0e", rate);
  std::printf("   chosen\n");
  for (auto const& m : methods) {
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
    chosen[m.name] = {{"lr", best->rate}, {"validation_loss", losses}};
  }
  json const all{{"steps", o.run.steps}, {"rank", o.run.rank},        {"alpha", o.run.alpha},
                 {"batch", o.run.batch}, {"seed", o.validation_seed}, {"validation_images", o.validation_images},
                 {"methods", chosen}};
  std::ofstream(o.rates) << all.dump(1) << '\n';
  std::printf("\nwritten to %s\n", o.rates.c_str());
}

void compare(job_board& board, task<backend> const& t, options const& o, std::vector<method> const& methods) {
  std::filesystem::create_directories(o.out);
  auto const wanted = [&](char const* p) { return std::find(o.panels.begin(), o.panels.end(), p) != o.panels.end(); };
  json summary{{"settings",
                {{"rank", o.run.rank},
                 {"alpha", o.run.alpha},
                 {"steps", o.run.steps},
                 {"batch", o.run.batch},
                 {"seeds", o.seeds},
                 {"held_out_images", o.held_out_images}}},
               {"panels", json::object()},
               {"coverage", json::object()},
               {"seconds", json::object()}};
  std::ofstream csv(o.out + "/curves.csv");
  csv << "panel,method,lr,seed,step,loss\n";
  auto began = std::chrono::steady_clock::now();
  auto const store = [&](std::string const& panel, std::string const& title, std::vector<run_record> const& records) {
    auto const rows = summarise(methods, records);
    print_panel(title, rows);
    std::printf("%.0f s\n", seconds_since(began));
    summary["seconds"][panel] = seconds_since(began);
    began = std::chrono::steady_clock::now();
    summary["panels"][panel] = panel_json(rows);
    append_curves(csv, panel, records);
  };

  // Rates are looked up before anything runs.
  std::map<std::string, double> own_rate;
  std::string own_title = "(b) each method at its own best rate (chosen on validation images, " + o.rates + ")";
  if (wanted("b")) {
    auto const file = read_json(o.rates);
    for (auto const& m : methods) {
      if (!file.at("methods").contains(m.name))
        throw std::runtime_error(o.rates + ": no rate for " + m.name +
                                 "; leave out panel b, or choose rates for these options: --sweep --rates FILE");
      own_rate[m.name] = file.at("methods").at(m.name).at("lr").get<double>();
    }
    if (file.at("rank") != o.run.rank || file.at("alpha") != o.run.alpha || file.at("steps") != o.run.steps)
      own_title += ", for rank " + file.at("rank").dump() + ", alpha " + file.at("alpha").dump() + ", " +
                   file.at("steps").dump() + " steps, not for these options";
  }

  std::vector<run_record> known;
  auto const panel_runs = [&](std::function<double(method const&)> const& rate_of) {
    std::vector<std::tuple<method, double, std::uint64_t>> missing;
    auto const same = [](run_record const& r, method const& m, double rate, std::uint64_t seed) {
      return r.method == m.name && r.rate == rate && r.seed == seed;
    };
    for (auto const seed : o.seeds)
      for (auto const& m : methods)
        if (std::none_of(known.begin(), known.end(), [&](auto const& r) { return same(r, m, rate_of(m), seed); }))
          missing.emplace_back(m, rate_of(m), seed);
    auto const fresh = run_all(board, t, o.run, missing);
    known.insert(known.end(), fresh.begin(), fresh.end());
    std::vector<run_record> panel;
    for (auto const seed : o.seeds)
      for (auto const& m : methods)
        panel.push_back(
            *std::find_if(known.begin(), known.end(), [&](auto const& r) { return same(r, m, rate_of(m), seed); }));
    return panel;
  };

  if (wanted("a")) {
    char title[96];
    std::snprintf(title, sizeof title, "(a) one common rate, %.0e (the paper's protocol)", o.rate);
    store("common", title, panel_runs([&](method const&) { return o.rate; }));
  }
  if (wanted("b")) {
    store("best", own_title, panel_runs([&](method const& m) { return own_rate.at(m.name); }));
  }
  if (wanted("c")) {
    backend be(1);
    auto const layers = measure_coverage(be, t, o.run, o.seeds.front());
    std::vector<method_alignment> aligned;
    for (auto const& m : methods) aligned.push_back(measure_alignment(be, t, m, o.run, o.seeds.front()));
    print_coverage(layers, aligned);
    summary["coverage"] = coverage_json(layers, aligned);
  }
  std::ofstream(o.out + "/summary.json") << summary.dump(1) << '\n';
}

int run(int argc, char** argv) {
  options o;
  bool sweeping = false;
  CLI::App app{
      "Fine-tunes a small pre-trained vision transformer to new classes: full fine-tuning, LoRA and its variants, "
      "PiSSA, LoRA-GA, and LoRA-GA's form on a random matrix."};
  app.add_option("--data", o.data, "folder of the uncompressed Fashion-MNIST files")
      ->capture_default_str()
      ->take_last();
  app.add_option("--cache", o.cache, "folder for the pre-trained checkpoint")->capture_default_str()->take_last();
  app.add_option("--out", o.out, "folder for summary.json and curves.csv")->capture_default_str()->take_last();
  app.add_option("--rates", o.rates, "file of each method's best rate: read by panel b, written by --sweep")
      ->required()
      ->take_last();
  app.add_option("--methods", o.methods, "which methods (default: all; lora is needed for 'steps to LoRA')");
  app.add_option("--panels", o.panels, "a: one common rate, b: own best rates, c: coverage and alignment")
      ->check(CLI::IsMember({"a", "b", "c"}));
  app.add_option("--seeds", o.seeds, "seeds of head, batches and gradient sample");
  app.add_option("--rank", o.run.rank, "rank, capped per layer at half the smaller side")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  CLI::Validator const positive(
      [](std::string& text) {
        char* end = nullptr;
        double const x = std::strtod(text.c_str(), &end);
        return *end == 0 && std::isfinite(x) && x > 0 ? std::string() : text + " is not a positive finite number";
      },
      "POSITIVE");
  app.add_option("--alpha", o.run.alpha, "alpha of the adapters' scaling")->capture_default_str()->check(positive);
  app.add_option("--gamma", o.gammas, "LoRA-GA's gammas")->check(positive);
  app.add_option("--lr", o.rate, "the common rate of panel a")->capture_default_str()->check(positive);
  app.add_option("--steps", o.run.steps, "training steps per run")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "runs side by side")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_flag("--sweep", sweeping, "choose each method's rate on validation images and write it to --rates");
  CLI11_PARSE(app, argc, argv);
  auto const distinct = [](auto values) {
    std::sort(values.begin(), values.end());
    return std::adjacent_find(values.begin(), values.end()) == values.end();
  };
  if (!distinct(o.seeds) || !distinct(o.gammas)) throw std::runtime_error("--seeds and --gamma take each number once");
  if (sweeping && !o.methods.empty()) throw std::runtime_error("--sweep writes a whole file: leave out --methods");

  auto methods = all_methods(o.gammas);
  for (auto const& name : o.methods)
    if (std::none_of(methods.begin(), methods.end(), [&](auto const& m) { return m.name == name; }))
      throw std::runtime_error("--methods: there is no method " + name);
  if (!o.methods.empty())
    std::erase_if(methods, [&](auto const& m) {
      return std::find(o.methods.begin(), o.methods.end(), m.name) == o.methods.end();
    });

  backend be(o.threads);
  model::vision_transformer_shape const shape;
  auto const checkpoint = cached_checkpoint(be, shape, o.data, o.cache, o.pretrain_steps);

  auto const everything = data::read_fashion_mnist(o.data, "train", 5, 9);
  index_t const for_training = everything.count() - o.validation_images;
  data::device_set<backend> const training(be, everything.slice(0, for_training));
  data::device_set<backend> const validation(be, everything.slice(for_training, o.validation_images));
  data::device_set<backend> const test(be, data::read_fashion_mnist(o.data, "t10k", 5, 9));

  std::printf("fine-tuning to classes 5-9: %lld steps of %lld images, %lld training images, rank",
              static_cast<long long>(o.run.steps), static_cast<long long>(o.run.batch),
              static_cast<long long>(training.count()));
  std::map<index_t, int> ranks;
  {
    model::vision_transformer<backend> m(be, shape);
    for (auto* l : m.linears()) ++ranks[capped_rank(*l, o.run.rank)];
  }
  for (auto const& [r, n] : ranks) std::printf(" %lld (%d layers)", static_cast<long long>(r), n);
  std::printf(", alpha %g, %d runs side by side\n", o.run.alpha, o.threads);

  job_board board(o.threads);
  task<backend> t{shape, checkpoint, &training, sweeping ? &validation : &test,
                  sweeping ? o.validation_images : o.held_out_images};
  if (sweeping) sweep(board, t, o, methods);
  else compare(board, t, o, methods);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (std::exception const& failure) {
  std::cerr << "finetune: " << failure.what() << '\n';
  return 1;
}

// Our half of the comparison with PEFT: does what a job in JSON says, with weights, inputs and results in safetensors
// files. Module M of a data file has x.M (tokens x in), for training t.M (tokens x out); results are y.M (tokens x
// out).
//   exchange train JOB   adapters from a method, some steps of AdamW, then files in PEFT's format
//   exchange load JOB    an adapter that PEFT wrote, and what the layers compute with it
//   exchange save JOB    records from a file, written in PEFT's format
//   exchange combine JOB several adapters as one, by weights
//   exchange ga JOB      LoRA-GA's A and B for given gradients
//   exchange names JOB   which patterns and selections fit which modules
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/io/merge.hpp>

#include "layers.hpp"
#include "records_file.hpp"

using namespace interop;

namespace {

/// y.M of every layer as a file.
class results {
  std::map<std::string, std::pair<std::vector<index_t>, std::vector<float>>> tensors_;

 public:
  void add(std::string const& name, std::vector<index_t> const& shape, std::vector<float> const& values) {
    tensors_[name] = {shape, values};
  }
  void add(std::string const& name, record_matrix const& m) { add(name, {m.rows, m.cols}, m.values); }
  void write(std::string const& path) const {
    std::vector<tensor_spec> specs;
    for (auto const& [name, t] : tensors_) specs.push_back({name, dtype::F32, t.first});
    safetensors_writer writer(path, specs, {}, overwrite::yes);
    for (auto const& [name, t] : tensors_) writer.write(name, std::as_bytes(std::span(t.second)));
    writer.commit();
  }
};

/// Writes what the job asks for: adapters, an anchored base, merged weights.
void save(cpu& be, json const& job, std::vector<adapter_record> const& records, safetensors_model const& base) {
  for (auto const& e : job.value("exports", json::array()))
    save_peft(text(e, "folder"), records, interop::peft_options_of(e), base);
  merge_options const options{.fan_in_fan_out = job.value("fan_in_fan_out", false),
                              .module_prefix = text(job, "module_prefix"),
                              .may_replace = overwrite::yes};
  if (job.contains("anchored_base")) save_anchored_base(be, base, text(job, "anchored_base"), records, options);
  if (job.contains("merged")) merge_into_model(be, base, text(job, "merged"), records, options);
  if (job.contains("records")) interop::write_records(text(job, "records"), records);
}

template <class A, class Anchor>
void start(cpu& be, json const& job, A& adapter, linear& l, std::uint64_t seed, Anchor anchor) {
  auto const method = text(job, "method");
  if (method == "own") return;  // AdaLoRA's
  if (method == "lora") return initialise(be, adapter, kaiming_init{.seed = seed});
  if (method == "pissa") return initialise(be, adapter, pissa_init{}, l.W(), gram{}, anchor);
  dense_gradient<cpu> gradient(be, l.out, l.in);
  be.gemm(1, l.W(), l.X(), 0, l.Y());
  l.loss();
  gradient.add_outer(be, l.dY(), l.X());
  initialise(be, adapter, lora_ga_init{.gamma = 16}, l.W(), gram{}, gradient, anchor);
}

/// Prints the losses, so that the caller sees that something was learnt.
template <class A>
void train(json const& job) {
  cpu be(1);
  safetensors_model const base(text(job, "base"));
  safetensors_file const data(text(job, "data"));
  std::vector<adapter_record> records;
  results y;
  double before = 0, after = 0;
  for (auto const& m : job["modules"]) {
    std::string const module = m["name"];
    index_t const rank = m["rank"];
    double const alpha = m["alpha"], r = static_cast<double>(rank);
    linear l(job, base, data, module);
    double const divisor = text(job, "adapter") == "adalora" ? r + 1e-5 : job["rank_stable"] ? std::sqrt(r) : r;
    A adapter(be, l.out, l.in, rank, constant_scaling{alpha / divisor});
    auto const seed = static_cast<std::uint64_t>(records.size());
    constexpr bool prunes = std::is_same_v<A, adalora<float, cpu>>;
    using in_place = std::conditional_t<prunes, frozen_pair_anchor, in_place_anchor>;
    if (text(job, "anchor") == "in_place") start(be, job, adapter, l, seed, in_place{});
    else start(be, job, adapter, l, seed, frozen_pair_anchor{});
    adamw<typename A::value_type, cpu> optimiser(be);
    add_adapter(be, optimiser, adapter, {.learning_rate = job.value("learning_rate", 2e-2)});
    typename A::tape tape;
    for (int step = 0; step < 6; ++step) {
      compute(be, l, adapter, tape);
      double const loss = l.loss();
      if (step == 0) before += loss;
      adapter.zero_gradient(be);
      (void)adapter.backward(be, l.W(), l.X(), l.dY(), tape, 0, matrix_view<float, host_space>{});
      optimiser.step(be);
    }
    compute(be, l, adapter, tape);
    after += l.loss();
    y.add("y." + module, {l.tokens, l.out}, l.y);
    records.push_back(take_record(be, adapter, module));
  }
  y.write(text(job, "out"));
  save(be, job, records, base);
  std::cout << json{{"before", before}, {"after", after}} << "\n";
}

std::optional<peft_base> base_of(json const& job) {
  auto const name = text(job, "as");
  if (name.empty()) return {};
  return name == "anchored" ? peft_base::anchored : peft_base::original;
}

void load(json const& job) {
  cpu be(1);
  auto const adapter = load_peft(text(job, "adapter"), base_of(job));
  safetensors_model const base(text(job, "base"));
  safetensors_file const data(text(job, "data"));
  results y;
  for (auto const& r : adapter.records)
    if (auto const of = output_of(be, r, job, base, data); !of.values.empty())
      y.add("y." + r.module, of.shape, of.values);
  y.write(text(job, "out"));
  save(be, job, adapter.records, base);
}

void combine(json const& job) {
  cpu be(1);
  std::vector<weighted_records> adapters;
  for (auto const& a : job["adapters"]) adapters.push_back({load_peft(text(a, "folder")).records, a["weight"]});
  save(be, job, combined(adapters), safetensors_model(text(job, "base")));
}

/// For every module of "modules": A and B, and the base in place, of each of the job's "cases".
void ga(json const& job) {
  cpu be(1);
  std::map<std::string, ga_directions> const directions{
      {"ArB2r", ga_directions::ArB2r}, {"A2rBr", ga_directions::A2rBr}, {"ArBr", ga_directions::ArBr}};
  std::map<std::string, ga_scale> const scales{{"stable", ga_scale::peft_stable},
                                               {"weight_svd", ga_scale::peft_weight_svd},
                                               {"gd_scale", ga_scale::gd},
                                               {"unit", ga_scale::unit}};
  safetensors_model const base(text(job, "base"));
  safetensors_file const data(text(job, "data")), gradients(text(job, "gradients"));
  results factors;
  for (auto const& c : job["cases"])
    for (auto const& m : job["modules"]) {
      std::string const module = m, name = text(c, "name");
      linear l(job, base, data, module);
      auto gradient = values_of(gradients[module]);
      auto const g = row_major(gradient.data(), gradients[module].rows(), gradients[module].cols());
      dense_gradient<cpu> sum(be, l.out, l.in);
      sum.add(be, job.value("fan_in_fan_out", false) ? g.transposed() : g);
      lora<float, cpu> adapter(be, l.out, l.in, c["rank"], constant_scaling{c["scale"]});
      lora_ga_init const init{
          .gamma = 16, .directions = directions.at(text(c, "direction")), .scale = scales.at(text(c, "initial_scale"))};
      initialise(be, adapter, init, l.W(), gram{}, sum, in_place_anchor{});
      auto const r = take_record(be, adapter, module);
      factors.add(name + ".A." + module, r.a);
      factors.add(name + ".B." + module, r.b);
    }
  factors.write(text(job, "out"));
}

void names(json const& job) {
  json answers = json::array();
  for (auto const& c : job["cases"]) {
    json answer;
    try {
      auto const config = parse_peft_config(text(c, "config"), "config");
      peft_scales const scales(config, "config");
      for (std::string const module : job["modules"]) {
        index_t const rank = scales.rank(module);
        answer["rank"].push_back(rank);
        answer["alpha"].push_back(scales.scale(module) * static_cast<double>(rank));
        answer["selected"].push_back(config.targets.selects(module) ? 1 : 0);
      }
    } catch (format_error const& e) {
      answer = {{"refused", e.what()}};
    }
    answers.push_back(answer);
  }
  std::cout << answers << "\n";
}

}  // namespace

int main(int argc, char** argv) try {
  std::string const what = argc == 3 ? argv[1] : "";
  json const job = what.empty() ? json() : json::parse(read_text(argv[2]));
  auto const adapter = text(job, "adapter");
  if (what == "train" && text(job, "type") == "bf16") train<lora<bf16, cpu>>(job);
  else if (what == "train" && adapter == "dora") train<dora<float, cpu>>(job);
  else if (what == "train" && adapter == "adalora") train<adalora<float, cpu>>(job);
  else if (what == "train") train<lora<float, cpu>>(job);
  else if (what == "load") load(job);
  else if (what == "ga") ga(job);
  else if (what == "names") names(job);
  else if (what == "combine") combine(job);
  else if (what == "save") {
    cpu be(1);
    save(be, job, interop::read_records(text(job, "from")), safetensors_model(text(job, "base")));
  } else {
    std::cerr << "exchange train|load|save|combine|ga|names JOB\n";
    return 2;
  }
} catch (loraga::error const& e) {
  std::cerr << e.what() << "\n";
  return 1;
}

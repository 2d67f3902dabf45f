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

#include "records_file.hpp"

using namespace loraga;
using nlohmann::json;

namespace {

std::string text(json const& job, char const* key) { return job.value(key, std::string()); }

/// A tensor as floats, row by row.
std::vector<float> values_of(stored_tensor const& t) {
  std::vector<float> values(static_cast<std::size_t>(t.rows() * t.cols()));
  read_matrix(t, row_major(values.data(), t.rows(), t.cols()));
  return values;
}

/// What a layer is made of: W, inputs and targets.
struct linear {
  index_t out, in, tokens;
  std::vector<float> w, x, t, y, dy;

  linear(json const& job, safetensors_model const& base, safetensors_file const& data, std::string const& module) {
    auto const weight = base[weight_name(module, text(job, "module_prefix"))];
    bool const transposed = job.value("fan_in_fan_out", false);
    out = transposed ? weight.cols() : weight.rows();
    in = transposed ? weight.rows() : weight.cols();
    w.resize(static_cast<std::size_t>(out * in));
    read_matrix(weight, transposed ? W().transposed() : W());
    tokens = data["x." + module].rows();
    x = values_of(data["x." + module]);
    if (data.contains("t." + module)) t = values_of(data["t." + module]);
    y.resize(static_cast<std::size_t>(tokens * out));
    dy.resize(y.size());
  }
  matrix_view<float, host_space> W() { return row_major(w.data(), out, in); }
  matrix_view<float, host_space> X() { return activations(x.data(), tokens, in); }
  matrix_view<float, host_space> Y() { return activations(y.data(), tokens, out); }
  matrix_view<float, host_space> dY() { return activations(dy.data(), tokens, out); }

  /// dY of half the mean squared distance to the target, which is returned.
  double loss() {
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      dy[i] = (y[i] - t[i]) / static_cast<float>(tokens);
      sum += 0.5 * static_cast<double>(dy[i]) * static_cast<double>(y[i] - t[i]);
    }
    return sum;
  }
};

template <class A>
void compute(cpu& be, linear& l, A& adapter, typename A::tape& tape) {
  be.gemm(1, l.W(), l.X(), 0, l.Y());
  adapter.forward(be, l.W(), l.X(), l.Y(), tape);
}

/// y.M of every layer as a file.
class results {
  std::map<std::string, std::pair<std::vector<index_t>, std::vector<float>>> tensors_;

 public:
  void add(std::string const& name, index_t rows, index_t cols, std::vector<float> const& values) {
    tensors_[name] = {{rows, cols}, values};
  }
  void add(std::string const& name, record_matrix const& m) { add(name, m.rows, m.cols, m.values); }
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

template <class T, class Anchor>
void start(cpu& be, json const& job, lora<T, cpu>& adapter, linear& l, std::uint64_t seed, Anchor anchor) {
  auto const method = text(job, "method");
  if (method == "lora") return initialise(be, adapter, kaiming_init{.seed = seed});
  if (method == "pissa") return initialise(be, adapter, pissa_init{}, l.W(), gram{}, anchor);
  dense_gradient<cpu> gradient(be, l.out, l.in);
  be.gemm(1, l.W(), l.X(), 0, l.Y());
  l.loss();
  gradient.add_outer(be, l.dY(), l.X());
  initialise(be, adapter, lora_ga_init{.gamma = 16}, l.W(), gram{}, gradient, anchor);
}

/// Prints the losses, so that the caller sees that something was learnt.
template <class T>
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
    lora<T, cpu> adapter(be, l.out, l.in, rank, constant_scaling{alpha / (job["rank_stable"] ? std::sqrt(r) : r)});
    auto const seed = static_cast<std::uint64_t>(records.size());
    if (text(job, "anchor") == "in_place") start(be, job, adapter, l, seed, in_place_anchor{});
    else start(be, job, adapter, l, seed, frozen_pair_anchor{});
    adamw<T, cpu> optimiser(be);
    add_adapter(be, optimiser, adapter, {.learning_rate = 2e-2});
    typename lora<T, cpu>::tape tape;
    for (int step = 0; step < 6; ++step) {
      compute(be, l, adapter, tape);
      double const loss = l.loss();
      if (step == 0) before += loss;
      adapter.zero_gradient(be);
      adapter.backward(be, l.W(), l.X(), l.dY(), tape, 0, matrix_view<float, host_space>{});
      optimiser.step(be);
    }
    compute(be, l, adapter, tape);
    after += l.loss();
    y.add("y." + module, l.tokens, l.out, l.y);
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
  for (auto const& r : adapter.records) {
    linear l(job, base, data, r.module);
    lora<float, cpu> layer(be, l.out, l.in, r.rank(), constant_scaling{r.scale});
    put_record(be, r, layer);
    lora<float, cpu>::tape tape;
    compute(be, l, layer, tape);
    y.add("y." + r.module, l.tokens, l.out, l.y);
  }
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
  if (what == "train" && text(job, "type") == "bf16") train<bf16>(job);
  else if (what == "train") train<float>(job);
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

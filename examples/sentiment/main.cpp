// Fine-tunes all-MiniLM-L6-v2, a real BERT encoder, for sentiment with every start the library knows, or does a plan of
// such runs. See examples/run.sh sentiment.
#include <loraga/cpu.hpp>
#include <set>

#include "../data/vader.hpp"
#include "../training/plan.hpp"
#include "device_job.hpp"

namespace {

using namespace sentiment;

data_sets read_sets(options const& o) {
  data::wordpiece const tokenizer(o.model + "/vocab.txt");
  data::vader_rule const rule;
  auto const shape = model::read_bert_shape(o.model);
  if (tokenizer.size() != shape.vocabulary || static_cast<loraga::index_t>(rule.tokens) > shape.positions)
    throw std::runtime_error(o.model + ": vocab.txt has " + std::to_string(tokenizer.size()) + " pieces, config.json " +
                             std::to_string(shape.vocabulary) + " and " + std::to_string(shape.positions) +
                             " positions; expected as many pieces, and at least " + std::to_string(rule.tokens) +
                             " positions");
  std::set<std::string> wanted(o.sets.begin(), o.sets.end());
  if (!o.plan.empty()) wanted = training::sets_of_plan(o.plan);
  std::printf("label: sign of the mean rating; dropped: |mean| < %g; snippets cut at %zu tokens\n",
              rule.smallest_rating, rule.tokens);
  data_sets sets;
  for (auto const& [name, file] : data::vader_files()) {
    if (!wanted.contains(name)) continue;
    auto const& s = sets[name] = split_vader(data::read_vader(o.data + "/" + file), tokenizer, rule);
    std::printf(
        "  %-7s %lld snippets, %lld dropped, %lld cut, %lld positive; %lld to train, %lld to validate, %lld to test\n",
        name.c_str(), static_cast<long long>(s.snippets), static_cast<long long>(s.dropped),
        static_cast<long long>(s.cut), static_cast<long long>(s.positive), static_cast<long long>(s.train.count()),
        static_cast<long long>(s.validation.count()), static_cast<long long>(s.test.count()));
  }
  std::fflush(stdout);
  return sets;
}

void run(options const& o) {
  auto const sets = read_sets(o);
  training::job const work = [&](training::laboratory const& lab) {
    o.plan.empty() ? training::compare(lab, o) : training::run_plan(lab, o);
  };
  auto const make = [](int threads) { return std::make_unique<loraga::cpu>(threads); };
  if (o.device == "cpu") return run_job<loraga::cpu>(o, sets, make, work);
#ifdef SENTIMENT_WITH_CUDA
  run_job_on_cuda(o, sets, work);
#else
  training::refuse_device("bash examples/run.sh sentiment");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  return training::run_program("sentiment", [&] { run(parse_options(argc, argv)); });
}

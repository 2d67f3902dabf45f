// Teaches a quantised language model a dictionary, with adapters beside a base that stays as its file has it. See
// examples/run.sh llm.
#include <loraga/cpu.hpp>

#include "device_job.hpp"

namespace {

using namespace language;

/// The model's answers to held-out terms, before and after each run, to read.
void print_answers(options const& o, dictionary const& d) {
  auto const read = [](std::filesystem::path const& path) { return training::json::parse(loraga::read_text(path)); };
  std::vector<std::filesystem::path> runs;
  for (auto const& entry : std::filesystem::directory_iterator(o.out + "/adapters"))
    if (std::filesystem::exists(entry.path() / "answers.json")) runs.push_back(entry.path());
  std::sort(runs.begin(), runs.end());
  std::string text;
  auto const before = read(o.out + "/before.json");
  for (auto const& [term, said] : before.items()) {
    auto const found =
        std::find_if(d.held_out.begin(), d.held_out.end(), [&](auto const& x) { return x.term == term; });
    text += "## " + term + "\n\n* dictionary: " + (found == d.held_out.end() ? "" : found->text) +
            "\n* before: " + said.get<std::string>() + "\n";
    for (auto const& run : runs)
      text += "* " + run.filename().string() + ": " + read(run / "answers.json").value(term, std::string()) + "\n";
    text += "\n";
  }
  training::write_whole(o.out + "/answers.md", text);
  std::printf("\n%s", text.c_str());
}

/// The held-out items as other programs can evaluate them: OUT/held_out.json.
void write_held_out(options const& o, dictionary const& d) {
  auto all = training::json::array();
  for (index_t i = 0; i < d.test.count(); ++i)
    all.push_back({{"term", d.held_out[static_cast<std::size_t>(i)].term},
                   {"prompt", d.test[i].prompt},
                   {"tokens", d.test[i].tokens}});
  training::write_whole(o.out + "/held_out.json", all.dump() + '\n');
}

/// What decides the numbers of all runs in OUT, beside each run's own options: OUT/job.json says it.
/// errors  runtime_error if the folder holds another job, or runs of an unknown one
void require_same_job(options const& o, index_t definitions) {
  std::filesystem::path const path = o.out + "/job.json";
  auto const file = [](std::filesystem::path const& p) { return p.filename().string(); };
  training::json const ours{{"model", file(o.model)}, {"dictionary", file(o.data)}, {"definitions", definitions},
                            {"longest", o.longest},   {"held_out", o.held_out},     {"tokens", o.most_tokens},
                            {"answers", o.answers}};
  bool const known = std::filesystem::exists(path);
  if (!known && std::filesystem::exists(o.out + "/results.jsonl"))
    throw std::runtime_error(o.out + ": holds results, and no job.json says of what; choose another --out");
  if (!known) return training::write_whole(path.string(), ours.dump(1) + '\n');
  auto const theirs = training::json::parse(loraga::read_text(path), nullptr, false);
  for (auto const& [key, value] : ours.items())
    if (!theirs.is_object() || !theirs.contains(key) || theirs[key] != value)
      throw std::runtime_error(path.string() + ": " + key + " is " +
                               (theirs.is_object() && theirs.contains(key) ? theirs[key].dump() : "missing") +
                               " there, here " + value.dump() + "; choose another --out");
}

void run(options const& o) {
  std::filesystem::create_directories(o.out + "/adapters");
  loraga::base_model const base(o.model);
  auto const tokenizer = read_tokenizer(base);
  questions const ask(tokenizer, o.model);
  auto const data = read_dictionary(data::read_dictd(o.data), ask, o.held_out, o.longest);
  std::printf("%lld definitions to train, %lld to validate, %lld to test; %lld cut at %lld tokens\n",
              static_cast<long long>(data.train.count()), static_cast<long long>(data.validation.count()),
              static_cast<long long>(data.test.count()), static_cast<long long>(data.cut),
              static_cast<long long>(o.longest));
  std::fflush(stdout);
  if (auto const words = model::read_decoder_shape(base).vocabulary; tokenizer.size() > words)
    throw std::runtime_error(o.model + ": its tokenizer has " + std::to_string(tokenizer.size()) +
                             " tokens, its embedding " + std::to_string(words) + "; expected at least as many");
  require_same_job(o, data.train.count() + data.validation.count() + data.test.count());
  write_held_out(o, data);
  material const from{base, tokenizer, ask, data};
  training::job const work = [&](training::laboratory const& lab) { training::compare(lab, o); };
  if (o.device == "cpu") {
    run_job<loraga::cpu>(
        o, from, [](int threads) { return std::make_unique<loraga::cpu>(threads); }, work);
  } else {
#ifdef LANGUAGE_WITH_CUDA
    run_job_on_cuda(o, from, work);
#else
    training::refuse_device("bash examples/run.sh llm");
#endif
  }
  print_answers(o, data);
}

}  // namespace

int main(int argc, char** argv) {
  return training::run_program("language", [&] { run(parse_options(argc, argv)); });
}

#pragma once
#include <loraga/io/gguf.hpp>
#include <loraga/io/peft.hpp>

#include "../model/language_model.hpp"
#include "../training/device_job.hpp"
#include "../training/statistics.hpp"
#include "dictionary.hpp"
#include "options.hpp"

namespace language {

/// What a job reads: the base, its words, and what it is to learn.
struct material {
  loraga::base_model const& base;
  data::byte_pairs const& tokenizer;
  questions const& ask;
  dictionary const& data;
};

/// Definitions of the first held-out terms, as the model has them now.
template <class B>
training::json answers(B& be, model::language_model<B>& m, material const& from, options const& o) {
  auto all = training::json::object();
  for (std::size_t i = 0; i < std::min(from.data.held_out.size(), static_cast<std::size_t>(o.answers)); ++i) {
    auto const& term = from.data.held_out[i].term;
    all[term] = from.tokenizer.decode(m.answer(be, from.ask.prompt(term), from.ask.end(), 48));
  }
  return all;
}

/// The trained adapters for the original base: a folder for PEFT, and a file for llama.cpp.
template <class B>
void save_adapters(B& be, model::language_model<B>& m, material const& from, std::filesystem::path const& folder) {
  std::vector<loraga::adapter_record> records;
  for (auto* l : m.linears())
    records.push_back(
        loraga::widened(loraga::take_record(be, *l->adapter.template get<loraga::lora<float, B>>(), l->module())));
  loraga::peft_options const peft{.base_model = from.base.path().filename().string(),
                                  .task_type = "CAUSAL_LM",
                                  .may_replace = loraga::overwrite::yes};
  loraga::save_peft(folder, records, peft, loraga::unchecked_names{});  // they are the base's own
  auto const& s = m.network.shape;
  loraga::gguf_options const gguf{
      .architecture = "llama", .heads = s.heads, .kv_heads = s.kv_heads, .may_replace = loraga::overwrite::yes};
  loraga::save_gguf_adapter(folder / "adapter.gguf", records, gguf);
}

/// What the gradients of a start will take, before they are sampled.
template <class B>
void announce_estimate(model::language_model<B>& m, training::train_spec const& s) {
  auto const how = training::find_method(s.method);
  if (!how.reads_gradient() || s.estimate != "streamed") return;
  std::vector<loraga::layer_size> sizes;
  for (auto* l : m.linears()) sizes.push_back({l->out(), l->in()});
  std::printf("  %s, seed %llu: the gradients of %zu layers will take %.1f MB beside the model\n", s.method.c_str(),
              static_cast<unsigned long long>(s.seed), sizes.size(),
              static_cast<double>(loraga::model_gradient<B>::bytes(sizes, {.rank = s.rank})) / 1e6);
  std::fflush(stdout);
}

/// One run, from its start to its files in OUT/adapters/<run>.
template <class B, class T>
training::train_record train_and_save(B& be, T const& t, training::train_spec const& s, material const& from,
                                      options const& o, training::checkpointing const& keep,
                                      training::listener const& tell) {
  training::trainer run(be, t, s);
  if (keep.path.empty() || !std::filesystem::exists(keep.path)) announce_estimate(run.model(), s);
  auto const began = std::chrono::steady_clock::now();
  auto const record = run.run(keep, [&](training::progress const& p) {
    tell(p);
    std::printf("  %s, seed %llu, step %lld of %lld: loss %.4f, %.0f tokens/s\n", s.method.c_str(),
                static_cast<unsigned long long>(s.seed), static_cast<long long>(p.step),
                static_cast<long long>(p.steps), p.loss,
                static_cast<double>(run.model().tokens) / training::seconds_since(began));
    std::fflush(stdout);
  });
  auto const id = std::filesystem::path(keep.path).stem();
  auto const folder = std::filesystem::path(o.out) / "adapters" / id;
  save_adapters(be, run.model(), from, folder);
  if (auto const& e = run.model().estimate; e.bytes > 0) {
    std::printf("  the gradients of %zu layers took %.1f MB (%.1f by the formula) and %.1f s for %lld batches%s",
                run.model().linears().size(), static_cast<double>(e.measured) / 1e6, static_cast<double>(e.bytes) / 1e6,
                e.seconds, static_cast<long long>(e.batches), e.settled ? ", and settled early" : "");
    if (!e.turns.empty()) std::printf("; the last piece of each batch turned them by");
    for (double const turn : e.turns) std::printf(" %.3f", turn);
    std::printf("\n");
    training::json const report{{"bytes", e.bytes},     {"measured", e.measured}, {"seconds", e.seconds},
                                {"batches", e.batches}, {"settled", e.settled},   {"turns", e.turns}};
    training::write_whole((folder / "estimate.json").string(), report.dump(1) + '\n');
  }
  training::write_whole((folder / "answers.json").string(), answers(be, run.model(), from, o).dump(1) + '\n');
  return record;
}

/// Opens the model on a device, lets it answer as it is, then lets `work` ask for runs.
template <class B>
void run_job(options const& o, material const& from, training::backend_maker<B> const& make,
             training::job const& work) {
  using network = model::language_model<B>;
  typename network::shape_type const shape{&from.base, model::read_decoder_shape(from.base), o.most_tokens};
  model::weights const none;
  training::task<network, data::token_set> const task{
      .shape = shape, .weights = &none, .data = &from.data, .curve_items = o.held_out, .new_head = false};
  if (auto const path = o.out + "/before.json"; !std::filesystem::exists(path)) {
    auto const be = make(o.threads);
    network m(*be, shape);
    training::write_whole(path, answers(*be, m, from, o).dump(1) + '\n');
  }
  auto const refuse = [] { throw std::runtime_error("language: trains, and measures nothing else"); };
  work({[&](training::train_spec const& s, training::checkpointing const& keep, int threads,
            training::listener const& tell) {
          auto const be = make(threads);
          return train_and_save(*be, task, s, from, o, keep, tell);
        },
        [&](training::gradient_spec const&, int) -> std::vector<training::gradient_layer> {
          refuse();
          return {};
        },
        [&](training::train_spec const&, int) -> training::first_update {
          refuse();
          return {};
        }});
}

/// run_job for loraga::cuda, compiled by nvcc.
void run_job_on_cuda(options const& o, material const& from, training::job const& work);

}  // namespace language

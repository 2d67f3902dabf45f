// The language example's model and dictionary.
#include "../language/dictionary.hpp"
#include "../model/language_model.hpp"
#include "job.hpp"

namespace ranks {

std::vector<json> language_runs(loraga::cpu& be, communicator& comm, options const& o) {
  using network = model::language_model<loraga::cpu>;
  loraga::base_model const base(o.model);
  auto const tokenizer = language::read_tokenizer(base);
  language::questions const ask(tokenizer, o.model);
  auto const data = language::read_dictionary(data::read_dictd(o.dictionary), ask, o.held_out, o.longest);
  model::weights const none;
  training::task<network, data::token_set> const task{.shape = {&base, model::read_decoder_shape(base)},
                                                      .weights = &none,
                                                      .data = &data,
                                                      .curve_items = o.held_out,
                                                      .new_head = false};
  std::vector<json> runs;
  for (auto const& method : o.methods) {
    auto s = spec_of(o, method);
    s.set = "foldoc";
    s.steps = o.language_steps;
    s.batch = o.language_batch;
    s.evaluate_every = std::max<index_t>(1, o.language_steps / 2);
    s.sample = {2, o.language_batch};
    runs.push_back(train(be, comm, task, s, "language", o));
  }
  return runs;
}

}  // namespace ranks

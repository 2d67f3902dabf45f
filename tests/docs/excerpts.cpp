// Blocks of docs/interchange.md and docs/ranks.md that need something around them to compile. docs/site/check.py
// compares the lines; nothing here runs.
#include <cstdio>
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#include <loraga/io/checkpoint.hpp>
#include <loraga/io/gather_record.hpp>
#include <loraga/io/merge_peft.hpp>
#include <loraga/io/peft.hpp>
#include <loraga/io/safetensors.hpp>

namespace docs_excerpts {

using namespace loraga;

void to_and_from_peft(cpu& be, lora<float, cpu> const& adapter, index_t out, index_t in) {
  auto r = take_record(be, adapter, "model.layers.0.self_attn.q_proj");  // host memory, from any backend
  std::vector const all{r};                                              // one for each adapted layer
  save_peft("my-adapter", all, {.base = peft_base::original, .task_type = "CAUSAL_LM"}, safetensors_model("base"));
  auto const records = load_peft("their-adapter").records;
  lora<float, cpu> ad(be, out, in, records[0].rank(), constant_scaling{records[0].scale});
  put_record(be, records[0], ad);
}

void merged(cpu& be) {
  std::vector<weighted_peft> adapters{{load_peft("a", {}, whole_layers::take), 1}};
  for (auto const& note : merge_peft(be, safetensors_model("base"), "merged", adapters)) std::puts(note.c_str());
}

template <class G>
void checkpoint(cpu& be, lora<float, cpu>& adapter, adamw<float, cpu>& optimiser, G& gradient, index_t step) {
  auto const everything = [&](auto& c) {
    c("adapter", adapter), c("optimiser", optimiser), c("gradient", gradient), c("step", step);
  };
  save_checkpoint(be, "run.checkpoint", everything);
  load_checkpoint(be, "run.checkpoint", everything);  // into objects built as before
}
template void checkpoint(cpu&, lora<float, cpu>&, adamw<float, cpu>&, incremental_gradient<cpu>&, index_t);

template <class C, class View>
void tensor_parallel(cpu& be, C& comm, View W_r, View X, View dY_r, index_t out, index_t in) {
  auto const part = even_shard(shard_side::rows, out, in, comm.rank(), comm.size());  // or fill a shard by hand
  lora<float, cpu> adapter(be, part.out(), part.in(), 8, of_whole{rank_stable_scaling{}, part});
  incremental_gradient<cpu> gradient(be, part.out(), part.in(), {.rank = 8});
  gradient.add_outer(be, dY_r, X);  // by rows; by columns (be, dY, X_r)
  std::vector layers{sharded_layer{&adapter, part, W_r, &gradient, "q_proj"}};
  initialise_sharded(be, comm, layers, lora_ga_init{}, frozen_pair_anchor{});
  adamw<float, cpu> optimiser(be);
  add_adapter(be, optimiser, adapter, {.learning_rate = 1e-2});
  // training: adapter.forward(be, W_r, X, Y_r, tape) and backward beside the base's own passes, then
  sum_replicated(be, comm, layers);
  optimiser.step(be);
  std::vector<adapter_record> records;
  // saving, on every rank (#include <loraga/io/gather_record.hpp>, of component io); rank 0 writes
  records.push_back(gather_record(be, comm, adapter, part, "model.layers.0.self_attn.q_proj"));
}
using host_matrix = matrix_view<float, host_space>;
template void tensor_parallel(cpu&, loopback_communicator&, host_matrix, host_matrix, host_matrix, index_t, index_t);

}  // namespace docs_excerpts

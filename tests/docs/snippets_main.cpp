// The reference's snippets, and blocks of other documents (excerpts.cpp), run on small data: each says something that
// can be checked.
#include <cstdio>
#include <filesystem>
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#include <loraga/io/base_model.hpp>
#include <loraga/io/checkpoint.hpp>
#include <loraga/io/gguf.hpp>
#include <loraga/io/merge_peft.hpp>
#include <loraga/io/rank_checkpoint.hpp>
#include <loraga/svd/eigen.hpp>

#include "../io/gguf_bytes.hpp"
#include "../support/folder.hpp"

using namespace loraga;

#include "adapter_adalora.cpp"
#include "adapter_any.cpp"
#include "adapter_convolution.cpp"
#include "adapter_dora.cpp"
#include "adapter_embedding.cpp"
#include "adapter_lora.cpp"
#include "adapter_lora_sb.cpp"
#include "anchors.cpp"
#include "borrowed_memory.cpp"
#include "checkpoint.cpp"
#include "cpu_backend.cpp"
#include "diagnostics.cpp"
#include "elementwise.cpp"
#include "errors.cpp"
#include "excerpts.cpp"
#include "gguf.cpp"
#include "gguf_base.cpp"
#include "gradient_background.cpp"
#include "gradient_dense.cpp"
#include "gradient_incremental.cpp"
#include "gradient_of_a_model.cpp"
#include "gradient_sign.cpp"
#include "input_statistics.cpp"
#include "merge_files.cpp"
#include "merge_folder.cpp"
#include "optimiser.cpp"
#include "random_numbers.cpp"
#include "rank_allocation.cpp"
#include "rank_checkpoint.cpp"
#include "ranks.cpp"
#include "safetensors.cpp"
#include "save_and_load_peft.cpp"
#include "scalings.cpp"
#include "start_from_gradient.cpp"
#include "start_from_inputs.cpp"
#include "start_from_weight.cpp"
#include "start_layers.cpp"
#include "start_lora_ga.cpp"
#include "start_random.cpp"
#include "svd_exact.cpp"
#include "svd_methods.cpp"
#include "views.cpp"

namespace {

int failed = 0;
void expect(bool ok, char const* what) {
  if (!ok) std::printf("%s\n", what), ++failed;
}
bool near(double x, double y) { return std::abs(x - y) <= 1e-4 * std::max(1.0, std::abs(y)); }

}  // namespace

int main() {
  index_t const out = 20, in = 16, tokens = 40, r = 4;
  cpu be;
  matrix<float, cpu> w(be, out, in), noise(be, out, in), x(be, in, tokens), dy(be, out, tokens), dw(be, out, in);
  random_weights(be, w.view(), noise.view());
  fill_normal(be, x.view(), {1, 1}, 1);
  fill_normal(be, dy.view(), {1, 2}, 1);
  be.gemm(1, dy.view(), x.view().transposed(), 0, dw.view());
  matrix_view<float const, host_space> const g = dw.view();

  expect(look_at(w.view().data, x.view().data, out, in, tokens) == row_major(w.view().data, out, in)(1, 2), "views");
  expect(squared_output(be, w.view(), x.view()) > 0, "cpu");
  positive_part(be, w.view(), noise.view());
  expect(noise.view()(0, 0) >= 0, "elementwise");
  expect(what_is_wrong(be, w.view(), w.view(), dy.view()).find("cpu::gemm") == 0, "errors");
  double const first = leading_value(be, g, 2 * r);
  expect(near(triplets_of_sum(be, dy.view(), x.view(), r)[0].s(0, 0), first), "gradient_dense");
  expect(near(streamed_triplets(be, dy.view(), x.view(), r)[0].s(0, 0), first), "gradient_incremental");
  expect(sample_until_settled(be, dy.view(), x.view(), r) == 2, "gradient_of_a_model");
  expect(many_ranks(dy.view(), x.view(), r) > 0, "ranks");
  expect(feed_in_background(be, dy.view(), x.view(), r) == 2 * r + 1, "gradient_background");
  expect(sign_triplets(be, dw.view(), r).flags[0] == svd_usable, "gradient_sign");
  expect(tokens_seen(be, x.view()) == tokens, "input_statistics");
  matrix<double, cpu> identity(be, 5, 3);
  be.for_each(5, 3, [v = identity.view()](index_t i, index_t j) { v(i, j) = i == j; });
  expect(near(smallest_value(be, matrix_view<double const, host_space>(identity.view())), 1), "svd_exact");
  expect(near(difference_of_scales(out, in, r), 4), "scalings");
  std::vector<double> sigma(64);
  for (std::size_t i = 0; i < sigma.size(); ++i) sigma[i] = 1.0 / static_cast<double>(i + 1);
  expect(ranks_by_spectrum(sigma, sigma).size() == 2, "rank_allocation");
  expect(ranks_by_other_rules() > 4, "rank_allocation, other rules");

  expect(start_at_random(be, out, in) <= 0.25, "start_random");
  expect(start_by_lora_ga(be, w.view(), x.view(), dy.view()) > 0, "start_lora_ga");
  expect(start_ahead(be, w.view(), dw.view()) > 0, "start_from_gradient");
  expect(start_from_weight(be, w.view()) > 0.5, "start_from_weight");
  expect(start_from_inputs(be, w.view(), x.view()) == r, "start_from_inputs");
  expect(start_all_layers(be, w.view(), x.view(), dy.view()), "start_layers");
  expect(near(start_unchanged(be, w.view(), x.view()), 1), "anchors");
  matrix<float, cpu> y(be, out, tokens);
  expect(near(step_and_merge(be, w.view(), x.view(), y.view(), dy.view()), 1), "adapter_lora");
  expect(near(rescaled_step(be, w.view(), x.view(), dy.view()), 1), "adapter_dora");
  expect(prune_to_budget(be, w.view(), x.view(), dy.view()) == 8, "adapter_adalora");
  expect(train_r_only(be, w.view(), x.view(), dy.view()) == 16, "adapter_lora_sb");
  expect(choose_adapter(be, "adalora", w.view(), x.view(), dy.view()) == r, "adapter_any");
  expect(choose_adapter(be, "dora", w.view(), x.view(), dy.view()) == r * (out + in) + out, "adapter_any");
  std::vector<float> kernel(8 * 2 * 9, 0.1f), images(3 * 2 * 5 * 5, 1), conv(3 * 8 * 5 * 5), d_conv(conv);
  for (std::size_t i = 0; i < d_conv.size(); ++i) d_conv[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < images.size(); ++i) images[i] = std::cos(static_cast<float>(i * i));
  expect(near(adapt_convolution(be, kernel.data(), images.data(), conv.data(), d_conv.data(), 3, 2, 8, 5, 5), 4),
         "adapter_convolution");
  std::vector<float> table(30 * out, 1);
  expect(
      near(adapt_embedding(be, table.data(), 30, out, {3, 29, 3}, y.view().columns(0, 3), dy.view().columns(0, 3)), 1),
      "adapter_embedding");
  std::vector<float> a(static_cast<std::size_t>(r * in)), b(static_cast<std::size_t>(out * r));
  expect(adapt_in_place(be, a, b, out, in, r) == 0 && a[0] != 0, "borrowed_memory");

  lora<float, cpu> adapter(be, out, in, r, rank_stable_scaling{.alpha = 8});
  fill_normal(be, adapter.a(), {1, 3}, 0.1);
  fill_normal(be, adapter.b(), {1, 4}, 0.1);
  dense_gradient<cpu> G(be, out, in);
  G.add(be, dw.view());
  expect(look_at_gradient(be, G, g, adapter.a(), adapter.b()) <= 1.0001, "diagnostics");
  expect(near(optimise(be, adapter), 1), "optimiser");
  adamw<float, cpu> optimiser(be);
  add_adapter(be, optimiser, adapter, {});

  test::folder folder;
  loopback_group(2).run([&](loopback_communicator& comm) {
    cpu mine(1);
    matrix<float, cpu> dy(mine, out, 6), x(mine, in, 6);
    for (auto* m : {&dy, &x}) fill_normal(mine, m->view(), {static_cast<std::uint64_t>(m->rows()), 1}, 1);
    expect(stream_over_ranks(mine, comm, dy.view(), x.view(), r) == 1, "ranks: streamed");
    std::vector<layer_size> const sizes{{out, in}};
    model_gradient<cpu> gradients(mine, sizes, {.rank = 2});
    expect(save_and_resume_ranks(mine, comm, gradients, sizes, folder / "ranks") == 10, "rank_checkpoint");
  });
  expect(save_and_resume(be, adapter, optimiser, folder / "state") == 100, "checkpoint");
  expect(write_and_read(folder / "w.safetensors", w.view()) == w.view()(0, 0), "safetensors");
  expect(near(through_a_folder(be, adapter, folder / "adapter"), 4), "save_and_load_peft");
  auto record = take_record(be, adapter, "model.layers.0.self_attn.v_proj");
  for_llama_cpp(folder / "adapter.gguf", {record});
  expect(std::filesystem::file_size(folder / "adapter.gguf") > 500, "gguf");
  test::gguf_builder base;
  base.entry("general.architecture", "llama");
  base.number<std::uint32_t>("llama.attention.head_count", 4, 1);
  base.tensors = {{"blk.0.attn_q.weight", {32, 2}, 2, 0}};  // Q4_0: a scale of 1 before 16 bytes of nibbles
  base.data = std::string("\0\x3c", 2) + std::string(16, '\x9a') + std::string("\0\x3c", 2) + std::string(16, '\x9a');
  test::write_file(folder / "base.gguf", base.bytes());
  expect(read_quantised(folder / "base.gguf") == 1 + 2 + 2, "gguf_base");
  std::filesystem::create_directory(folder / "base");
  std::string const weight = "encoder.layer.0.attention.self.query.weight";
  safetensors_writer writer(folder / "base" / "model.safetensors", {{weight, dtype::F32, {out, in}}});
  writer.write(weight, w.view());
  writer.commit();
  record.module = "encoder.layer.0.attention.self.query";
  merge_file(be, folder / "base", folder / "merged", {record});
  expect(std::filesystem::exists(folder / "merged" / "model.safetensors"), "merge_files");
  merge_folder(be, folder / "base", folder / "merged too", folder / "adapter");
  expect(std::filesystem::exists(folder / "merged too" / "model.safetensors"), "merge_folder");
  return failed;
}

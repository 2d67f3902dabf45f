// What a streamed estimate of a whole model's gradients holds, really allocated and fed:
//   shapes NAME RANK     NAME: smollm2 or llama-2-7b
// prints layers, dense fp32 bytes, bytes by the formula, bytes by the allocator, and growth of the resident set.
#include <cstdio>
#include <fstream>
#include <loraga/cpu.hpp>
#include <string>

#include "../../examples/training/allocation_meter.hpp"

using loraga::index_t;

namespace {

/// Linear layers of one block of a llama: q, k, v, o, gate, up, down.
std::vector<loraga::layer_size> layers_of(index_t blocks, index_t width, index_t kv, index_t hidden) {
  std::vector<loraga::layer_size> all;
  for (index_t b = 0; b < blocks; ++b)
    for (auto const& l : {loraga::layer_size{width, width},
                          {kv, width},
                          {kv, width},
                          {width, width},
                          {hidden, width},
                          {hidden, width},
                          {width, hidden}})
      all.push_back(l);
  return all;
}

long resident() {
  std::ifstream status("/proc/self/statm");
  long total = 0, pages = 0;
  status >> total >> pages;
  return pages * 4096;
}

}  // namespace

int main(int argc, char** argv) {
  std::string const name = argc > 1 ? argv[1] : "";
  index_t const rank = argc > 2 ? std::atol(argv[2]) : 8, tokens = 64;
  if (name != "smollm2" && name != "llama-2-7b") return std::fprintf(stderr, "shapes: smollm2 or llama-2-7b\n"), 2;
  auto const layers = name == "smollm2" ? layers_of(30, 576, 192, 1536) : layers_of(32, 4096, 4096, 11008);
  loraga::cpu be;
  double dense = 0;
  index_t most = 0;
  for (auto const& l : layers) {
    dense += 4.0 * static_cast<double>(l.out) * static_cast<double>(l.in);
    most = std::max({most, l.out, l.in});
  }
  loraga::matrix<float, loraga::cpu> dy(be, most, tokens), x(be, most, tokens);
  loraga::fill_normal(be, dy.view(), {1, 1}, 1);
  loraga::fill_normal(be, x.view(), {1, 2}, 1);
  long const before = resident();
  training::allocation_peak const peak;
  loraga::model_gradient<loraga::cpu> all(be, layers, {.rank = rank});
  for (int batch = 0; batch < 2; ++batch)
    for (index_t i = 0; i < all.size(); ++i) {
      auto const& l = layers[static_cast<std::size_t>(i)];
      all[i].add_outer(be, dy.view().row_range(0, l.out), x.view().row_range(0, l.in));
    }
  std::printf(
      "{\"name\": \"%s\", \"rank\": %ld, \"layers\": %zu, \"dense_bytes\": %.0f, \"formula_bytes\": %lld, "
      "\"allocated_bytes\": %lld, \"resident_bytes\": %ld}\n",
      name.c_str(), static_cast<long>(rank), layers.size(), dense, static_cast<long long>(all.bytes()),
      static_cast<long long>(peak.bytes()), resident() - before);
}

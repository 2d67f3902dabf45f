// Answers commands on standard input, one line each, so that compare.py can time this library's adapters and its peers'
// in turn within one run. All print milliseconds but `limits`.
//   layer FOLDER RANK SCALE              reads w, x, dy, base, a, b, e and g of a layer, makes an adapter of each
//   METHOD METHOD forward | backward | step     Y = W*X + the adapter's part, where Y holds W*X already; the gradients
//   from zero,
//                                        and dX, the adapter's share; one AdamW step
//   METHOD whole_forward | whole_backward   the same and the layer's own products W*X and WT*D
//   METHOD write OUT                     Y, dX and the gradients to a file
//   METHOD values OUT                    A, B and what else is trained
//   limits                               GB/s of reading, GB/s of reading and writing in place, GFLOP/s of
//   multiply-adds
// METHOD: lora | dora | adalora
#include <cstdio>
#include <functional>
#include <iostream>
#include <loraga/cpu.hpp>
#include <map>
#include <sstream>

#include "../cpu/matrix_file.hpp"
#include "machine_limits.hpp"

namespace {

using bench::index_t;
using backend = loraga::cpu;
using view = loraga::matrix_view<float const, loraga::host_space>;
using memory = loraga::matrix<float, backend>;

/// What all methods of one layer share.
struct layer_data {
  std::map<std::string, bench::host_matrix> read;
  memory y, dx;

  layer_data(backend& be, std::string const& folder) {
    for (auto const* name : {"w", "x", "dy", "base", "a", "b", "e", "g"})
      read[name] = bench::read_matrix(folder + "/" + name);
    y = memory(be, read.at("dy").rows, read.at("dy").cols);
    dx = memory(be, read.at("x").rows, read.at("x").cols);
  }
  view of(char const* name) const { return read.at(name).view(); }
  view w() const { return of("w").transposed(); }  // rows contiguous, as PyTorch has it
};

template <class A>
class trained_layer {
  layer_data& data_;
  A adapter_;
  typename A::tape tape_;
  loraga::adamw<float, backend> optimiser_;

 public:
  trained_layer(backend& be, layer_data& data, index_t rank, double scale)
      : data_(data),
        adapter_(be, data.y.rows(), data.dx.rows(), rank, loraga::constant_scaling{scale}),
        optimiser_(be) {
    be.copy(data.of("a").transposed(), adapter_.a());
    be.copy(data.of("b").transposed(), adapter_.b());
    if constexpr (requires { adapter_.e(); }) be.copy(data.of("e"), adapter_.e());
    adapter_.values_changed(be);
    if constexpr (requires { adapter_.magnitude(); }) adapter_.set_magnitude(be, data.of("g"));
    loraga::add_adapter(be, optimiser_, adapter_, {.learning_rate = 1e-4});
  }

  double run(backend& be, std::string const& what, std::string const& out) {
    if (what == "forward") {
      be.copy(data_.of("base"), data_.y.view());
      return bench::milliseconds([&] { forward(be); });
    }
    if (what == "backward") return bench::milliseconds([&] { (void)backward(be); });
    if (what == "step") return bench::milliseconds([&] { optimiser_.step(be); });
    if (what == "whole_forward")
      return bench::milliseconds([&] {
        be.gemm(1.0, data_.w(), data_.of("x"), 0.0, data_.y.view());
        forward(be);
      });
    if (what == "whole_backward")
      return bench::milliseconds([&] {
        auto const d = backward(be);
        be.gemm(1.0, data_.w().transposed(), d, 1.0, data_.dx.view());
      });
    std::ofstream file(out, std::ios::binary);
    auto const write = [&](auto v) { bench::write_matrix(file, v.rows, v.cols, loraga::read_all(be, v)); };
    if (what == "write") {
      write(data_.y.view());
      write(data_.dx.view());
    } else if (what != "values") {
      throw std::runtime_error("unknown command " + what);
    }
    for (auto const& p : adapter_.parameters())
      write((what == "write" ? loraga::read_only(p.gradient) : loraga::read_only(p.value)).transposed());
    if (!file.flush()) throw std::runtime_error(out + ": cannot be written");
    return 0;
  }

 private:
  void forward(backend& be) {
    auto const y = data_.y.view();
    if constexpr (requires { adapter_.magnitude(); })
      adapter_.forward(be, data_.w(), data_.of("x"), loraga::read_only(y), y, tape_);  // Y is W*X alone
    else adapter_.forward(be, data_.w(), data_.of("x"), y, tape_);
  }
  auto backward(backend& be) {
    adapter_.zero_gradient(be);
    return loraga::read_only(
        adapter_.backward(be, data_.w(), data_.of("x"), data_.of("dy"), tape_, 0.0, data_.dx.view()));
  }
};

/// f(method's layer) of one layer, by the method's name.
class all_methods {
  layer_data data_;
  trained_layer<loraga::lora<float, backend>> lora_;
  trained_layer<loraga::dora<float, backend>> dora_;
  trained_layer<loraga::adalora<float, backend>> adalora_;

 public:
  all_methods(backend& be, std::string const& folder, index_t rank, double scale)
      : data_(be, folder),
        lora_(be, data_, rank, scale),
        dora_(be, data_, rank, scale),
        adalora_(be, data_, rank, scale) {}
  double run(backend& be, std::string const& method, std::string const& what, std::string const& out) {
    if (method == "lora") return lora_.run(be, what, out);
    if (method == "dora") return dora_.run(be, what, out);
    if (method == "adalora") return adalora_.run(be, what, out);
    throw std::runtime_error("unknown method " + method);
  }
};

}  // namespace

int main(int argc, char** argv) try {
  int const threads = argc > 1 ? std::stoi(argv[1]) : 1;
  backend be(threads);
  std::unique_ptr<all_methods> layer;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string first, what, out;
    in >> first;
    if (first == "layer") {
      index_t rank = 0;
      double scale = 0;
      in >> what >> rank >> scale;
      layer.reset();
      layer = std::make_unique<all_methods>(be, what, rank, scale);
      std::puts("0");
    } else if (first == "limits") {
      std::printf("%.4f %.4f %.4f\n", bench::reading_speed(threads), bench::updating_speed(threads),
                  bench::arithmetic_speed(threads));
    } else {
      in >> what >> out;
      if (!layer) throw std::runtime_error("no layer yet");
      std::printf("%.6f\n", layer->run(be, first, what, out));
    }
    std::fflush(stdout);
  }
} catch (std::exception const& failure) {
  std::fprintf(stderr, "adapter_server: %s\n", failure.what());
  return 1;
}

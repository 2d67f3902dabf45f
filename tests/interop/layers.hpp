#pragma once
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>

// Layers around the library's adapters, which compute what PyTorch's do without bias.

namespace interop {

using namespace loraga;
using nlohmann::json;

inline std::string text(json const& job, char const* key) { return job.value(key, std::string()); }

/// A tensor as floats, row by row.
inline std::vector<float> values_of(stored_tensor const& t) {
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

/// Calls f with an adapter of the record's method; its numbers are not in it yet.
template <class F>
void with_adapter(cpu& be, adapter_record const& r, F const& f) {
  auto const make = [&]<class A>(std::type_identity<A>) {
    f(A(be, r.b.rows, r.a.cols, r.rank(), constant_scaling{r.scale}));
  };
  if (r.has_magnitude()) make(std::type_identity<dora<float, cpu>>());
  else if (r.has_e()) make(std::type_identity<adalora<float, cpu>>());
  else make(std::type_identity<lora<float, cpu>>());
}

struct output {
  std::vector<index_t> shape;
  std::vector<float> values;
};

/// What a layer with the record's adapter computes of x.M; strides and paddings are the job's. Nothing for a DoRA of an
/// embedding, which is only merged here.
inline output output_of(cpu& be, adapter_record r, json const& job, safetensors_model const& base,
                        safetensors_file const& data) {
  auto const weight = base[weight_name(r.module, text(job, "module_prefix"))];
  auto const input = data["x." + r.module];
  output y;
  if (r.layer.form == layer_form::embedding) {
    if (r.has_magnitude()) return y;
    embedding<float, cpu> layer(be, r.b.rows, r.a.cols, r.rank(), constant_scaling{r.scale});
    put_record(be, r, layer);
    auto const table = values_of(weight);  // vocabulary x dim
    auto const w = row_major(table.data(), r.a.cols, r.b.rows).transposed();
    auto const ids = row_major(reinterpret_cast<std::int64_t const*>(input.bytes.data()), 1, input.shape[0]);
    y = {{ids.cols, w.rows}, std::vector<float>(static_cast<std::size_t>(ids.cols * w.rows))};
    auto const to = activations(y.values.data(), ids.cols, w.rows);
    gather_columns(be, w, ids, to);
    layer.forward(be, ids, to);
  } else if (weight.shape.size() == 4) {
    auto const& k = weight.shape;
    auto const& steps = job["convolutions"][r.module];
    convolution_geometry const geometry{
        k[1], {k[2], steps["stride"][0], steps["padding"][0]}, {k[3], steps["stride"][1], steps["padding"][1]}};
    r.layer = {layer_form::convolution, k[2], k[3]};  // AdaLoRA's files do not say so
    auto const w = values_of(weight), x = values_of(input);
    auto const W = row_major(w.data(), k[0], geometry.in());
    auto const images = nchw(x.data(), input.shape[0], input.shape[1], input.shape[2], input.shape[3]);
    index_t const height = geometry.height.outputs(images.height), width = geometry.width.outputs(images.width);
    y = {{images.count, k[0], height, width},
         std::vector<float>(static_cast<std::size_t>(images.count * k[0] * height * width))};
    auto const to = nchw(y.values.data(), images.count, k[0], height, width);
    std::vector<float> unfolded(static_cast<std::size_t>(geometry.in() * height * width));
    for (index_t i = 0; i < images.count; ++i) {
      auto const windows = nchw(unfolded.data(), 1, geometry.in(), height, width);
      unfold(be, geometry, images.images(i, 1), windows);
      be.gemm(1, W, windows.matrix(), 0, to.images(i, 1).matrix());
    }
    with_adapter(be, r, [&]<class A>(A adapter) {
      convolution<A, cpu> layer(geometry, std::move(adapter));
      put_record(be, r, layer);
      typename convolution<A, cpu>::tape tape;
      layer.forward(be, W, images, to, tape);
    });
  } else {
    linear l(job, base, data, r.module);
    with_adapter(be, r, [&]<class A>(A adapter) {
      put_record(be, r, adapter);
      typename A::tape tape;
      compute(be, l, adapter, tape);
    });
    y = {{l.tokens, l.out}, l.y};
  }
  return y;
}

}  // namespace interop

#pragma once
#include <loraga/adapter/any_adapter.hpp>
#include <loraga/adapter/convolution.hpp>
#include <loraga/adapter/embedding.hpp>
#include <loraga/io/dtype.hpp>
#include <string>
#include <vector>

// An adapter in host memory, as files hold it: the same for every backend, and free of JSON, so that a .cu file may
// take records and a .cpp file write them.

namespace loraga {

/// A matrix of a record, row-major, in float whatever it is stored as.
struct record_matrix {
  index_t rows = 0, cols = 0;
  std::vector<float> values;  ///< row by row

  record_matrix() = default;
  record_matrix(index_t r, index_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  matrix_view<float, host_space> view() { return row_major(values.data(), rows, cols); }
  matrix_view<float const, host_space> view() const { return row_major(values.data(), rows, cols); }
  /// Whether there is none.
  bool empty() const { return rows * cols == 0; }
};

/// What kind of layer W belongs to. A, B and W are matrices for all of them; files shape them by it.
enum class layer_form {
  linear,       ///< W out x in
  convolution,  ///< 2-D: W out x (channels*kernel_height*kernel_width), as PyTorch's weight lies in memory
  embedding     ///< W dim x vocabulary, which files hold transposed
};
/// What kind of layer a record is for.
struct layer_kind {
  layer_form form = layer_form::linear;         ///< linear, convolution or embedding
  index_t kernel_height = 1, kernel_width = 1;  ///< of a convolution

  bool operator==(layer_kind const&) const = default;
};
/// The kind in words, for messages.
inline std::string layer_text(layer_kind const& k) {
  if (k.form == layer_form::convolution) return "a convolution of " + shape_text(k.kernel_height, k.kernel_width);
  return k.form == layer_form::embedding ? "an embedding" : "a linear layer";
}

/// One layer's change of W.
/// math    W + s*(B*A - B0*A0), the second product where the adapter was anchored; with E (AdaLoRA) B*diag(E)*A in B*A's
///         place; with a magnitude g (DoRA) each row j of the sum is brought to the length g_j
struct adapter_record {
  std::string module;              ///< the layer's dotted name in its model, without ".weight"
  double scale = 1;                ///< s
  record_matrix a, b;              ///< r x in, out x r
  record_matrix start_a, start_b;  ///< A0, B0 of an anchored adapter, or empty
  dtype type = dtype::F32;         ///< what A, B and E were rounded to: F32, BF16 or F16
  record_matrix magnitude = {};    ///< out x 1, or empty
  record_matrix e = {};            ///< r x 1, or empty
  layer_kind layer = {};           ///< what W is the weight of

  index_t rank() const { return a.rows; }
  /// Whether it holds A0 and B0.
  bool anchored() const { return !start_a.empty(); }
  /// Whether it is DoRA's.
  bool has_magnitude() const { return !magnitude.empty(); }
  /// Whether it is AdaLoRA's.
  bool has_e() const { return !e.empty(); }
};

/// Throws unless the matrices fit together and all numbers are finite.
/// errors  shape_error; numeric_error; value_error for a scale that is not finite, a nameless module, a kernel that is
///         none, or E and a magnitude in one record
inline void check_record(adapter_record const& r, std::string_view function) {
  std::string const where = std::string(function) + "(" + r.module + ")";
  if (r.module.empty()) raise<value_error>(where, "module", "empty", "the layer's name");
  require_value(is_finite(r.scale), r.scale, where, "scale", "a finite number");
  auto const check = [&](record_matrix const& m, index_t rows, index_t cols, char const* name) {
    if (m.rows != rows || m.cols != cols) raise_shape(m.rows, m.cols, rows, cols, where, name);
    if (m.values.size() != static_cast<std::size_t>(rows * cols))
      raise<shape_error>(where, name, std::to_string(m.values.size()) + " numbers", std::to_string(rows * cols));
    for (float const x : m.values)
      if (!is_finite(static_cast<double>(x))) raise<numeric_error>(where, name, "not finite", "finite numbers");
  };
  require_value(r.rank() >= 1 && r.a.cols >= 1 && r.b.rows >= 1, static_cast<double>(r.rank()), where, "rank",
                "at least 1");
  check(r.a, r.rank(), r.a.cols, "A");
  check(r.b, r.b.rows, r.rank(), "B");
  if (r.has_e()) check(r.e, r.rank(), 1, "E");
  if (r.has_magnitude()) check(r.magnitude, r.b.rows, 1, "magnitude");
  if (r.has_e() && r.has_magnitude())
    raise<value_error>(where, "record", "one with E and a magnitude", "AdaLoRA's or DoRA's");
  index_t const kernel = r.layer.kernel_height * r.layer.kernel_width;
  bool const fits = r.layer.kernel_height >= 1 && r.layer.kernel_width >= 1 && r.a.cols % kernel == 0;
  if (!fits || (kernel != 1 && r.layer.form != layer_form::convolution))
    raise<value_error>(where, "kernel", shape_text(r.layer.kernel_height, r.layer.kernel_width),
                       "1x1, or a convolution's, whose size divides " + std::to_string(r.a.cols));
  if (r.start_a.empty() && r.start_b.empty()) return;
  check(r.start_a, r.start_a.rows, r.a.cols, "A0");
  check(r.start_b, r.b.rows, r.start_a.rows, "B0");
}

namespace detail {

/// What an adapter writes its record through.
template <Backend B>
struct record_writer {
  B& be;
  adapter_record& record;

  template <class V>
  void take(V from, record_matrix& to) const {
    if (from.rows * from.cols == 0) return;
    to = record_matrix(from.rows, from.cols);
    auto const values = read_all(be, from);  // column by column
    for (index_t j = 0, at = 0; j < from.cols; ++j)
      for (index_t i = 0; i < from.rows; ++i, ++at)
        to.view()(i, j) = value_as<float>(values[static_cast<std::size_t>(at)]);
  }
  void a(auto from) const { take(from, record.a); }
  void b(auto from) const { take(from, record.b); }
  void e(auto from) const { take(from, record.e); }
  void magnitude(auto from) const { take(from, record.magnitude); }
};

/// parameters() is an array of more than A and B.
template <class A>
constexpr bool trains_more = [] {
  using P = std::remove_cvref_t<decltype(std::declval<A&>().parameters())>;
  if constexpr (requires { std::tuple_size<P>::value; }) return std::tuple_size<P>::value > 2;
  else return false;
}();

}  // namespace detail

/// Copies an adapter, and its start where it has one, into host memory; float64 adapters are rounded to float32, the
/// most that adapter files hold. LoRA-SB's record is that of a LoRA, with B*R for B. Waits for the backend.
/// errors  state_error if the adapter is merged or was never started, or is a DoRA whose magnitude is not set yet (call prepare)
template <Backend B, class A>
adapter_record take_record(B& be, A const& adapter, std::string module) {
  using T = typename A::value_type;
  if (adapter.merged()) raise<state_error>("take_record(" + module + ")", "adapter", "merged", "not merged");
  if constexpr (requires { adapter.require_started("take_record"); }) adapter.require_started("take_record");
  adapter_record r{std::move(module), adapter.scale(), {}, {}, {}, {}, is_16bit<T> ? dtype_of<T> : dtype::F32};
  detail::record_writer<B> const writer{be, r};
  if constexpr (requires { adapter.write_record(be, writer); }) {
    adapter.write_record(be, writer);
  } else {
    static_assert(!detail::trains_more<A>,
                  "this adapter trains more than A and B: give it write_record and read_record");
    writer.a(adapter.a());
    writer.b(adapter.b());
  }
  if constexpr (requires { adapter.start_a(); }) {
    writer.take(adapter.start_a(), r.start_a);
    writer.take(adapter.start_b(), r.start_b);
  }
  return r;
}
/// The same of the adapter in a convolution or an embedding: the record knows which.
template <Backend B, class A>
adapter_record take_record(B& be, convolution<A, B> const& layer, std::string module) {
  auto r = take_record(be, layer.adapter(), std::move(module));
  r.layer = {layer_form::convolution, layer.geometry().height.kernel, layer.geometry().width.kernel};
  return r;
}
template <Backend B, class T>
adapter_record take_record(B& be, embedding<T, B> const& layer, std::string module) {
  auto r = take_record(be, layer.adapter(), std::move(module));
  r.layer = {layer_form::embedding};
  return r;
}

/// A copy of a record's matrix, or of its transpose, in the backend's memory.
template <class T, Backend B>
matrix<T, B> uploaded(B& be, matrix_view<float const, host_space> from) {
  matrix<T, B> to(be, from.rows, from.cols);
  auto const host = be.template allocate_host<T>(from.rows * from.cols);
  auto const packed = col_major(host.get(), from.rows, from.cols);
  for (index_t j = 0; j < from.cols; ++j)
    for (index_t i = 0; i < from.rows; ++i) packed(i, j) = static_cast<T>(from(i, j));
  be.copy(packed, to.view());
  be.synchronize();
  return to;
}

namespace detail {

/// What an adapter reads its record through: its matrices in the backend's memory.
template <class T, class B>
struct record_reader {
  matrix<T, B> at, b_, e_;
  matrix<compute_t<T>, B> magnitude_;

  record_reader(B& be, adapter_record const& r)
      : at(uploaded<T>(be, r.a.view().transposed())), b_(uploaded<T>(be, r.b.view())) {
    if (r.has_e()) e_ = uploaded<T>(be, r.e.view());
    if (r.has_magnitude()) magnitude_ = uploaded<compute_t<T>>(be, r.magnitude.view());
  }
  auto a() const { return at.view().transposed(); }
  auto b() const { return b_.view(); }
  auto e() const { return e_.view(); }
  auto magnitude() const { return magnitude_.view(); }
  bool has_e() const { return e_.rows() > 0; }
  bool has_magnitude() const { return magnitude_.rows() > 0; }
};

template <class A>
record_extra held_by(A const& adapter) {
  if constexpr (requires { adapter.holds(); }) return adapter.holds();
  else if constexpr (requires { A::holds; }) return A::holds;
  else return record_extra::none;
}

}  // namespace detail

/// A and B of a record become the adapter's, as a new start, and so do E and a magnitude. Gradients become 0. Where W
/// is the record's base, the layer then computes what the record says. A plain record may go into any adapter: DoRA's
/// next pass measures the magnitude, AdaLoRA splits off E, LoRA-SB R.
/// errors  shape_error; value_error if the adapter's scale is not the record's (build it with constant_scaling);
///         state_error if the adapter is merged or anchored in place, if the record is anchored (restore a checkpoint
///         instead, or widen it), or if it holds E or a magnitude and the adapter has none
template <Backend B, class A>
void put_record(B& be, adapter_record const& r, A& adapter) {
  using T = typename A::value_type;
  std::string const where = "put_record(" + r.module + ")";
  auto const extra = detail::held_by(adapter);
  check_record(r, "put_record");
  adapter.check_start();
  if (r.anchored()) raise<state_error>(where, "record", "anchored: it holds A0 and B0", "a plain one; see widened");
  if (r.has_magnitude() && extra != record_extra::magnitude)
    raise<state_error>(where, "record", "DoRA's: it holds a magnitude", "a plain one, or a dora for it");
  if (r.has_e() && extra != record_extra::e)
    raise<state_error>(where, "record", "AdaLoRA's: it holds E", "a plain one (see without_e), or an adalora for it");
  if (std::abs(adapter.scale() - r.scale) > 1e-12 * std::abs(r.scale))
    raise<value_error>(where, "the adapter's scale", std::to_string(adapter.scale()), std::to_string(r.scale));
  if (r.a.cols != adapter.in() || r.b.rows != adapter.out() || r.rank() != adapter.rank())
    raise<shape_error>(where, "record", shape_text(r.b.rows, r.a.cols) + " of rank " + std::to_string(r.rank()),
                       shape_text(adapter.out(), adapter.in()) + " of rank " + std::to_string(adapter.rank()));
  detail::record_reader<T, B> const reader(be, r);
  if constexpr (requires { adapter.read_record(be, reader); }) adapter.read_record(be, reader);
  else adapter.start(be, reader.a(), reader.b());
}
/// An adapter of the class, shape, rank and scale that a record is of, holding it.
/// errors  as put_record
/// cost    A and B to the backend's memory
template <Element T, Backend B>
any_adapter<T, B> adapter_of(B& be, adapter_record const& r, lora_options options = {}) {
  auto const kind = r.has_magnitude() ? adapter_kind::dora : r.has_e() ? adapter_kind::adalora : adapter_kind::lora;
  check_record(r, "adapter_of");
  any_adapter<T, B> adapter(kind, be, r.b.rows, r.a.cols, r.rank(), constant_scaling{r.scale}, options);
  put_record(be, r, adapter);
  return adapter;
}
/// errors  also value_error if the record is of another kind of layer
template <Backend B, class A>
void put_record(B& be, adapter_record const& r, convolution<A, B>& layer) {
  layer_kind const kind{layer_form::convolution, layer.geometry().height.kernel, layer.geometry().width.kernel};
  if (r.layer != kind)
    raise<value_error>("put_record(" + r.module + ")", "record", "of " + layer_text(r.layer), layer_text(kind));
  put_record(be, r, layer.adapter());
}
template <Backend B, class T>
void put_record(B& be, adapter_record const& r, embedding<T, B>& layer) {
  if (r.layer != layer_kind{layer_form::embedding})
    raise<value_error>("put_record(" + r.module + ")", "record", "of " + layer_text(r.layer), "an embedding");
  put_record(be, r, layer.adapter());
}

}  // namespace loraga

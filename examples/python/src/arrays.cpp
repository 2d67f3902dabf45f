#include "arrays.hpp"

#include <unistd.h>

#include <mutex>

namespace python {

namespace {

/// Throws unless somebody's array could be read here: says what it is instead.
[[noreturn]] void refuse_object(nb::handle from, std::string_view where, std::string_view name, char const* expected) {
  raise<type_refused>(where, name, std::string("of type ") + nb::str(from.type().attr("__name__")).c_str(), expected);
}

/// What DLPack says of the place, before anybody reads it.
void require_cpu(nb::handle from, std::string_view where, std::string_view name) {
  if (!nb::hasattr(from, "__dlpack_device__")) return;
  constexpr int cpu_memory = 1;
  int device = cpu_memory;
  try {
    device = nb::cast<int>(nb::tuple(from.attr("__dlpack_device__")())[0]);
  } catch (nb::python_error const&) {  // a device that DLPack does not know, such as torch's meta
    device = 0;
  }
  if (device == cpu_memory) return;
  std::string called = "DLPack calls its device " + std::to_string(device);
  if (nb::hasattr(from, "device")) {
    nb::object const itself = from.attr("device");
    nb::str const text(nb::handle{itself});  // from an object it would be taken for a str as it is
    called = std::string("its device is ") + text.c_str();
  }
  raise<value_error>(where, name, "not in the CPU's memory (" + called + ")",
                     device == 0 ? "an array with numbers in it" : "an array in it: .cpu() copies");
}

constexpr char const* an_array = "an array in the CPU's memory (numpy, torch, or another that has __dlpack__)";

/// rows, cols and strides of an array of any number of dimensions.
struct layout {
  index_t rows = 1, cols = 1, row_stride = 1, col_stride = 1;
};

template <class A>
layout layout_of(A const& array, bool tokens, std::string_view where, std::string_view name) {
  auto const n = array.ndim();
  std::string shape = "(";
  for (std::size_t i = 0; i < n; ++i) shape += (i ? ", " : "") + std::to_string(array.shape(i));
  shape += ")";
  if (tokens ? n < 1 : n != 2)
    raise<shape_error>(where, name, "of shape " + shape, tokens ? "tokens x features" : "two dimensions");
  layout l;
  l.cols = static_cast<index_t>(array.shape(n - 1));
  l.col_stride = array.stride(n - 1);
  for (std::size_t i = n - 1; i-- > 0;) {  // leading dimensions become one
    auto const size = static_cast<index_t>(array.shape(i));
    if (size == 1) continue;
    if (l.rows == 1) l.row_stride = array.stride(i);
    else if (array.stride(i) != l.rows * l.row_stride && size != 0 && l.rows != 0)
      raise<shape_error>(where, name, "of shape " + shape + ", whose tokens do not lie one behind the other",
                         "such that .reshape(-1, features) copies nothing; pass .contiguous()");
    l.rows *= size;
  }
  if (l.rows == 1) l.row_stride = l.cols;
  if (l.cols == 1) l.col_stride = l.row_stride == 1 ? std::max<index_t>(1, l.rows) : 1;
  try {
    loraga::require_strides(array.data() == nullptr, l.rows, l.cols, l.row_stride, l.col_stride, where, name);
  } catch (shape_error const& e) {
    throw shape_error(std::string(e.what()) + "; .contiguous() or numpy.ascontiguousarray makes a copy that has it");
  }
  return l;
}

/// The array as a view of its own type.  errors type_refused
template <class V, template <class> class View, class A>
V typed_view(A const& array, layout const& l, bool transposed, std::string_view where, std::string_view name) {
  auto const view = [&]<class T>(T*) -> V {
    View<T> const v(static_cast<decltype(View<T>::data)>(
                        static_cast<void*>(const_cast<void*>(static_cast<void const*>(array.data())))),
                    l.rows, l.cols, l.row_stride, l.col_stride);
    return transposed ? v.transposed() : v;
  };
  auto const type = array.dtype();
  using code = nb::dlpack::dtype_code;
  bool const is_float = type.code == static_cast<std::uint8_t>(code::Float) && type.lanes == 1;
  if (is_float && type.bits == 32) return view(static_cast<float*>(nullptr));
  if (is_float && type.bits == 64) return view(static_cast<double*>(nullptr));
  if (is_float && type.bits == 16) return view(static_cast<fp16*>(nullptr));
  if (type.code == static_cast<std::uint8_t>(code::Bfloat) && type.bits == 16) return view(static_cast<bf16*>(nullptr));
  char const* const kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  std::string const kind = type.code < std::size(kinds) ? kinds[type.code] : "a number of";
  raise<type_refused>(where, name, "an array of " + kind + std::to_string(type.bits),
                      "float32, float64, float16 or bfloat16");
}

/// Backends that no call uses at the moment.
struct idle_backends {
  std::mutex mutex;
  std::vector<std::unique_ptr<cpu>> free;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  pid_t owner = ::getpid();
};
idle_backends& idle() {
  static auto* const all = new idle_backends;  // never destroyed: Python may still call while the process ends
  return *all;
}

}  // namespace

input_array::input_array(nb::handle from, std::string_view where, std::string_view name, bool tokens) {
  require_cpu(from, where, name);
  if (!nb::try_cast(from, held_, false)) refuse_object(from, where, name, an_array);
  auto const l = layout_of(held_, tokens, where, name);
  view_ = typed_view<decltype(view_), reading>(held_, l, tokens, where, name);
}

output_array::output_array(nb::handle from, std::string_view where, std::string_view name) {
  require_cpu(from, where, name);
  if (!nb::try_cast(from, held_, false)) {
    nb::ndarray<nb::ro> readable;
    if (nb::try_cast(from, readable, false))
      raise<value_error>(where, name, "read-only", "an array that may be written, because it is changed in place");
    refuse_object(from, where, name, an_array);
  }
  auto const l = layout_of(held_, false, where, name);
  view_ = typed_view<decltype(view_), writing>(held_, l, false, where, name);
}

lease::lease() {
  auto& all = idle();
  std::lock_guard const lock(all.mutex);
  if (all.owner != ::getpid()) {  // a fork: the threads of these stayed behind
    for (auto& b : all.free) (void)b.release();
    all.free.clear();
    all.owner = ::getpid();
  }
  while (!all.free.empty() && !mine_) {
    mine_ = std::move(all.free.back());
    all.free.pop_back();
    if (mine_->threads() != all.threads) mine_.reset();
  }
  if (!mine_) mine_ = std::make_unique<cpu>(all.threads);
}

lease::~lease() {
  auto& all = idle();
  std::lock_guard const lock(all.mutex);
  all.free.push_back(std::move(mine_));
}

int threads() {
  std::lock_guard const lock(idle().mutex);
  return idle().threads;
}
void set_threads(int n) {
  require_value(n >= 1, n, "set_threads", "n", "at least 1");
  std::lock_guard const lock(idle().mutex);
  idle().threads = n;
  if (idle().owner == ::getpid()) idle().free.clear();
}

}  // namespace python

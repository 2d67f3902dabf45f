#pragma once
#include <cstring>
#include <loraga/backend/cuda_products.cuh>
#include <loraga/core/batch.hpp>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

// Many small pieces of work that do the same, as one launch each. While a section is open, launches and products are
// written down instead. Each member of a batch has its own order; what different members do alike is put together.

namespace loraga::gpu {

/// Scratch memory of which nothing is given back while work that was written down may still need it.
template <class Workspace>
class step_workspace : public Workspace {
  bool keeps_ = false;

 public:
  void keep(bool on) { keeps_ = on; }
  template <class B>
  void release(B& be, typename Workspace::mark m) noexcept {
    if (!keeps_) Workspace::release(be, m);
  }
  template <class... X>
  void shrink(X const&... x) {
    if (!keeps_) Workspace::shrink(x...);
  }
  void trim() {
    if (!keeps_) Workspace::trim();
  }
};

/// Functors of one type, each over a grid of its own of one size, as one grid: a column is a functor's.
template <class F>
struct on_grids {
  F const* tasks;  // in device memory
  split_index column;
  index_t rows;
  LORAGA_HD void operator()(index_t e, index_t task) const {
    index_t const j = column.column(e);
    tasks[task](e - j * rows, j);
  }
};

/// What members do alike, with what differs in `tasks`.
template <class B>
struct step {
  using launch_t = void (*)(B&, step const&, std::byte const* on_device);
  launch_t launch;               ///< also says what kind of work it is
  std::vector<std::byte> alike;  ///< what tasks must have in common
  std::vector<std::byte> tasks;  ///< one after the other
  index_t count = 0;             ///< of them
  bool reads_table = true;       ///< whether the device reads `tasks`
};

template <class T>
void append_bytes(std::vector<std::byte>& to, T const& x) {
  static_assert(std::is_trivially_copyable_v<T>, "work for a GPU is copied byte by byte");
  auto const* const p = reinterpret_cast<std::byte const*>(&x);
  to.insert(to.end(), p, p + sizeof(T));
}
/// The object at place i of an array of bytes.
template <class T>
T object_at(std::vector<std::byte> const& from, index_t i) {
  alignas(T) std::byte raw[sizeof(T)];
  std::memcpy(raw, from.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return *std::launder(reinterpret_cast<T const*>(raw));
}

struct grid_size {
  index_t rows, cols;
};
template <class B, class F>
void launch_grids(B& be, step<B> const& s, std::byte const* on_device) {
  auto const size = object_at<grid_size>(s.alike, 0);
  if (s.count == 1) return for_each(be.stream(), size.rows, size.cols, object_at<F>(s.tasks, 0));
  on_grids<F> const all{reinterpret_cast<F const*>(on_device), split_index(size.rows, size.cols), size.rows};
  for_each(be.stream(), size.rows * size.cols, s.count, all);
}

template <class A, class Bv, class C>
struct product_task {
  A a;
  Bv b;
  C c;
};
/// What a batched product's members share.
struct product_shape {
  float_products how;
  int unused = 0;  // no padding: shapes are compared byte by byte
  double alpha, beta;
  index_t rows, depth, cols;
  index_t strides[6];
};
template <class A, class Bv, class C>
product_shape shape_of(float_products how, double alpha, A const& a, Bv const& b, double beta, C const& c) {
  return {how,    0,      alpha,  beta,
          c.rows, a.cols, c.cols, {a.row_stride, a.col_stride, b.row_stride, b.col_stride, c.row_stride, c.col_stride}};
}
template <class B, class A, class Bv, class C>
void launch_products(B& be, step<B> const& s, std::byte const*) {
  auto const shape = object_at<product_shape>(s.alike, 0);
  std::vector<A> a;
  std::vector<Bv> b;
  std::vector<C> c;
  for (index_t i = 0; i < s.count; ++i) {
    auto const task = object_at<product_task<A, Bv, C>>(s.tasks, i);
    a.push_back(task.a), b.push_back(task.b), c.push_back(task.c);
  }
  auto const before = be.products();
  be.products(shape.how);
  be.gemm_batched(shape.alpha, view_list(a), view_list(b), shape.beta, view_list(c));
  be.products(before);
}

/// Work that was written down, in an order that keeps each member's own.
template <class B>
class steps {
  std::vector<step<B>> all_;
  std::size_t next_ = 0;  // where the next piece of work of the member at hand may go
  bool open_ = false;
  index_t taken_ = 0;  // bytes allocated while open

 public:
  static constexpr index_t table_alignment = 256;

  bool open() const { return open_; }
  void open(bool on) { open_ = on; }
  bool pending() const { return !all_.empty(); }
  /// Memory was allocated.
  void took(index_t bytes) { taken_ += open_ ? bytes : 0; }
  /// Bytes allocated while open, since this was asked last with `again`.
  index_t taken(bool again = false) { return again ? std::exchange(taken_, 0) : taken_; }
  /// The next member begins.
  void next_member() { next_ = 0; }

  template <class F>
  void add_grid(index_t rows, index_t cols, F const& f) {
    add(&launch_grids<B, F>, grid_size{rows, cols}, f, true);
  }
  template <class A, class Bv, class C>
  void add_product(float_products how, double alpha, A const& a, Bv const& b, double beta, C const& c) {
    add(&launch_products<B, A, Bv, C>, shape_of(how, alpha, a, b, beta, c), product_task<A, Bv, C>{a, b, c}, false);
  }

  /// Launches all of it. What members have of their own goes to the device by one copy.
  /// errors  backend_error; what comes after a failed launch is dropped
  void launch(B& be) {
    auto const all = std::exchange(all_, {});
    next_ = 0;
    bool const was_open = std::exchange(open_, false);
    struct reopen {
      bool& flag;
      bool value;
      ~reopen() { flag = value; }
    } const at_end{open_, was_open};
    std::vector<std::byte> table;
    std::vector<std::size_t> places;
    for (auto const& s : all) {
      places.push_back(table.size());
      if (s.count == 1 || !s.reads_table) continue;
      table.insert(table.end(), s.tasks.begin(), s.tasks.end());
      table.resize((table.size() + table_alignment - 1) / table_alignment * table_alignment);
    }
    scratch<B> temporary(be);
    auto const n = static_cast<index_t>(table.size());
    auto const on_device = temporary.template matrix<std::byte>(n, 1);
    // Pageable memory is taken over before the call returns.
    if (n > 0)
      check(cudaMemcpyAsync(on_device.data, table.data(), table.size(), cudaMemcpyHostToDevice, be.stream()),
            "cudaMemcpyAsync");
    for (std::size_t i = 0; i < all.size(); ++i) all[i].launch(be, all[i], on_device.data + places[i]);
  }

 private:
  template <class Alike, class Task>
  void add(typename step<B>::launch_t how, Alike const& alike, Task const& task, bool reads_table) {
    std::vector<std::byte> key;
    append_bytes(key, alike);
    while (next_ < all_.size() && (all_[next_].launch != how || all_[next_].alike != key)) ++next_;
    if (next_ == all_.size()) all_.push_back({how, std::move(key), {}, 0, reads_table});
    append_bytes(all_[next_].tasks, task);
    ++all_[next_].count;
    ++next_;
  }
};

/// A scope in which work is written down and memory is kept for it.
template <class B, class Workspace>
class step_section {
  static constexpr index_t most_bytes = index_t{1} << 30;  // kept at a time

  B& be_;
  steps<B>& steps_;
  Workspace& memory_;
  stream& stream_;
  typename Workspace::mark const start_;

 public:
  step_section(B& be, steps<B>& all, Workspace& memory, stream& on)
      : be_(be), steps_(all), memory_(memory), stream_(on), start_(memory.position()) {
    steps_.taken(true);
    keep(true);
  }
  step_section(step_section const&) = delete;
  step_section& operator=(step_section const&) = delete;
  ~step_section() {
    if (!steps_.open()) return;
    try {  // a task threw: what came before it is done, as if each task were done at once
      if (steps_.pending()) steps_.launch(be_);
    } catch (...) {
    }
    close();
  }
  /// What came before was one member's; launches it if it holds much memory.
  void next_member() {
    steps_.next_member();
    auto const now = memory_.position();
    if (now.before + now.used - start_.before - start_.used + steps_.taken() < most_bytes) return;
    if (steps_.pending()) steps_.launch(be_);
    close();
    steps_.taken(true);
    keep(true);
  }
  /// Launches what is left.
  void finish() {
    if (steps_.pending()) steps_.launch(be_);
    close();
  }

 private:
  void keep(bool on) {
    steps_.open(on);
    memory_.keep(on);
    stream_.keep(on);
  }
  void close() {
    keep(false);
    memory_.release(be_, start_);
  }
};

}  // namespace loraga::gpu

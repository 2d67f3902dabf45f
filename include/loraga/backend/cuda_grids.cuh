#pragma once
#include <algorithm>
#include <loraga/backend/cuda_kernels.cuh>
#include <loraga/core/grids.hpp>
#include <loraga/core/matrix.hpp>
#include <vector>

// One kernel over the elements of many grids: a model's tensors are hundreds of small ones, and a launch for each costs
// more than their work. Grids are cut into chunks; device tables say which chunk is whose.

namespace loraga::gpu {

inline constexpr index_t chunk_threads = 256;  ///< threads that share a chunk
inline constexpr index_t chunk_size = 4096;    ///< its elements, so that a thread looks its grid up once for 16 of them

/// A record as kernels see it.
template <class R>
struct placed_grid {
  index_t first_chunk, size;
  index_t rows;
  split_index split;
  R record;

  /// use(f(record)(i, j)) for every element that thread `lane` has of a chunk. What f takes from the record, and from
  /// memory that it leads to, is read once.
  template <class F, class Use>
  LORAGA_HD void visit(index_t chunk, index_t lane, F const& f, Use const& use) const {
    auto const element = f(record);
    index_t const first = (chunk - first_chunk) * chunk_size + lane;
    for (index_t k = 0; k < chunk_size / chunk_threads; ++k) {
      index_t const e = first + k * chunk_threads;
      if (e >= size) return;
      index_t const j = split.column(e);
      use(element, e - j * rows, j);
    }
  }
};

/// Records to device memory through a kernel's parameters: nothing on the host must outlive the call.
template <class R>
struct place_grids {
  static constexpr index_t most = std::max<index_t>(1, 3072 / static_cast<index_t>(sizeof(placed_grid<R>)));
  placed_grid<R> from[most];
  matrix_view<placed_grid<R>, device_space> to;  // n x 1
  LORAGA_HD void operator()(index_t i, index_t) const { to(i, 0) = from[i]; }
};

/// owner(c) = the last grid whose first chunk is not behind c.
template <class R>
struct find_owners {
  matrix_view<placed_grid<R> const, device_space> grids;
  matrix_view<int, device_space> owner;
  LORAGA_HD void operator()(index_t c, index_t) const {
    index_t low = 0, high = grids.rows;
    while (high - low > 1) {
      index_t const middle = low + (high - low) / 2;
      (grids(middle, 0).first_chunk <= c ? low : high) = middle;
    }
    owner(c, 0) = static_cast<int>(low);
  }
};

/// What kernels over a list read. Grids without elements are left out.
template <class R, class B>
struct grids_plan {
  matrix<placed_grid<R>, B> grids;  // n x 1
  matrix<int, B> owner;             // chunks x 1
};

/// cost  n/20 launches or so, and one; takes memory
template <class B, class R>
grids_plan<R, B> const& plan(B& be, grid_list<R, B>& list) {
  using P = grids_plan<R, B>;
  return list.template plan<P>([&] {
    std::vector<placed_grid<R>> placed;
    index_t chunks = 0;
    for (auto const& g : list) {
      index_t const size = g.rows * g.cols;
      if (size <= 0) continue;
      placed.push_back({chunks, size, g.rows, split_index(g.rows, g.cols), g.record});
      chunks += (size + chunk_size - 1) / chunk_size;
    }
    auto const n = static_cast<index_t>(placed.size());
    auto made = std::make_shared<P>(P{{be, n, 1}, {be, chunks, 1}});
    for (index_t first = 0; first < n; first += place_grids<R>::most) {
      index_t const now = std::min(place_grids<R>::most, n - first);
      place_grids<R> some{{}, made->grids.view().row_range(first, now)};
      std::copy_n(placed.begin() + first, now, some.from);
      be.for_each(now, 1, some);
    }
    be.for_each(chunks, 1, find_owners<R>{made->grids.view(), made->owner.view()});
    return made;
  });
}

struct call_element {
  template <class E>
  LORAGA_HD void operator()(E const& element, index_t i, index_t j) const {
    element(i, j);
  }
};
struct add_element {
  double& sum;
  template <class E>
  LORAGA_HD void operator()(E const& element, index_t i, index_t j) const {
    sum += element(i, j);
  }
};

template <class R, class F>
struct run_chunk {
  placed_grid<R> const* grids;
  int const* owner;
  F f;
  LORAGA_HD void operator()(index_t lane, index_t chunk) const {
    placed_grid<R> const mine = grids[owner[chunk]];  // a copy: what is written to tensors cannot change it
    mine.visit(chunk, lane, f, call_element{});
  }
};

/// f(record)(i, j) for every element of every grid: one launch.
template <class B, class R, class F>
void for_each_of(B& be, grid_list<R, B>& list, F const& f) {
  auto const& p = plan(be, list);
  be.for_each(chunk_threads, p.owner.rows(), run_chunk<R, F>{p.grids.view().data, p.owner.view().data, f});
}

/// part(lane + group*threads) = the sum of what a thread has of chunks group, group + groups, ...
template <class R, class F>
struct sum_chunks {
  placed_grid<R> const* grids;
  int const* owner;
  index_t chunks;
  F f;
  matrix_view<double, device_space> part;
  LORAGA_HD void operator()(index_t lane, index_t group) const {
    double sum = 0;
    for (index_t c = group; c < chunks; c += part.rows / chunk_threads)
      grids[owner[c]].visit(c, lane, f, add_element{sum});
    part(lane + group * chunk_threads, 0) = sum;
  }
};

/// The sum of from(p), from(p + step), ...: eight at a time, so that as many loads are on their way.
LORAGA_HD inline double strided_sum(matrix_view<double const, device_space> from, index_t p, index_t step) {
  constexpr int at_once = 8;
  double sums[at_once] = {};
  for (; p + (at_once - 1) * step < from.rows; p += at_once * step)
    for (int k = 0; k < at_once; ++k) sums[k] += from(p + k * step, 0);
  for (; p < from.rows; p += step) sums[0] += from(p, 0);
  for (int k = 1; k < at_once; ++k) sums[0] += sums[k];
  return sums[0];
}

struct fold_sums {
  matrix_view<double const, device_space> from;
  matrix_view<double, device_space> to;
  LORAGA_HD void operator()(index_t p, index_t) const { to(p, 0) = strided_sum(from, p, to.rows); }
};

template <class Finish>
struct finish_sum {
  matrix_view<double const, device_space> from;
  Finish finish;
  LORAGA_HD void operator()(index_t, index_t) const { finish(strided_sum(from, 0, 1)); }
};

/// finish(sum of f(record)(i, j) over all elements of all grids), in double, in an order that follows from the list:
/// three launches.
template <class B, class R, class F, class Finish>
void sum_of(B& be, grid_list<R, B>& list, F const& f, Finish const& finish) {
  constexpr index_t most_groups = 512, few = 512;
  auto const& p = plan(be, list);
  index_t const chunks = p.owner.rows(), groups = std::min(chunks, most_groups);
  scratch<B> temporary(be);
  matrix_view<double, device_space> sums = temporary.template matrix<double>(groups * chunk_threads, 1);
  be.for_each(chunk_threads, groups, sum_chunks<R, F>{p.grids.view().data, p.owner.view().data, chunks, f, sums});
  if (sums.rows > few) {
    auto const folded = temporary.template matrix<double>(few, 1);
    be.for_each(few, 1, fold_sums{sums, folded});
    sums = folded;
  }
  be.for_each(1, 1, finish_sum<Finish>{sums, finish});
}

}  // namespace loraga::gpu

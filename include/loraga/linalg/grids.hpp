#pragma once
#include <loraga/core/grids.hpp>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/reductions.hpp>
#include <utility>

// Elementwise work and sums over the grids of a list. A backend may have both as members, for_each_of and sum_of, where
// a call for each grid costs more than its work: a GPU runs them in one and three kernels.

namespace loraga {

namespace detail {

/// f(record) as an elementwise functor.
template <class R, class F>
struct on_record {
  R record;
  F f;
  LORAGA_HD void operator()(index_t i, index_t j) const { f(record)(i, j); }
};

/// Column sums of f(record)(i, j).
template <class R, class F, class D>
struct record_sums : sum_of_doubles {
  R record;
  F f;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return f(record)(i, j); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

/// total = total + part, or part where it is the first.
template <class Cell>
struct add_part {
  Cell part, total;
  bool first;
  LORAGA_HD void operator()(index_t, index_t) const { total(0, 0) = (first ? 0.0 : total(0, 0)) + part(0, 0); }
};

template <class Cell, class F>
struct finish_total {
  Cell total;
  F finish;
  LORAGA_HD void operator()(index_t, index_t) const { finish(total(0, 0)); }
};

}  // namespace detail

/// f(record)(i, j) once for every element of every grid of the list, in any order: f makes an elementwise functor of a
/// record, where kernels run.
template <Backend B, class R, class F>
void for_each_of(B& be, grid_list<R, B>& list, F const& f) {
  if constexpr (requires { be.for_each_of(list, f); }) be.for_each_of(list, f);
  else
    for (auto const& g : list) be.for_each(g.rows, g.cols, detail::on_record<R, F>{g.record, f});
}

/// finish(total) on the device, once.
/// math    total = the sum of f(record)(i, j) over all elements of all grids, in double, in an order that depends on
///         their shapes alone
template <Backend B, class R, class F, class Finish>
void sum_of(B& be, grid_list<R, B>& list, F const& f, Finish const& finish) {
  if constexpr (requires { be.sum_of(list, f, finish); }) return be.sum_of(list, f, finish);
  else {
    using D = matrix_view<double, typename B::space>;
    scratch<B> temporary(be);
    D const part = temporary.template matrix<double>(1, 1), total = temporary.template matrix<double>(1, 1);
    fill(be, total, 0);
    bool first = true;
    for (auto const& g : list) {
      scratch<B> columns(be);
      D const sums = columns.template matrix<double>(g.cols, 1);
      be.reduce_columns(g.rows, g.cols, detail::record_sums<R, F, D>{{}, g.record, f, sums});
      be.reduce_columns(sums.rows, 1, detail::total<D, D>{{}, sums, part});
      be.for_each(1, 1, detail::add_part<D>{part, total, std::exchange(first, false)});
    }
    be.for_each(1, 1, detail::finish_total<D, Finish>{total, finish});
  }
}

}  // namespace loraga

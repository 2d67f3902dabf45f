#pragma once
#include "cusolver_common.hpp"

// What the double's SVD drivers share. All compute the same exact thing: they differ in shapes, in what they take and
// in what they leave behind.

namespace device_double {

template <class T>
struct factors {
  T *s, *u, *v;
  int64_t ldu, ldv;
  bool with_u, with_v, v_transposed = false;

  bool valid(int64_t m, int64_t n, int64_t k) const {
    return (!with_u || leading_is(ldu, m)) && (!with_v || leading_is(ldv, v_transposed ? k : n));
  }
  void add_to(operands& all, int64_t m, int64_t n, int64_t k) const {
    all.writes({"S", s, k, 1, k, sizeof(T)});
    if (with_u) all.writes({"U", u, m, k, ldu, sizeof(T)});
    if (with_v) all.writes({"V", v, v_transposed ? k : n, v_transposed ? n : k, ldv, sizeof(T)});
  }
};

/// The leading k triplets of a. What is not finite gives NaN, as a GPU may: the results say it, not the info.
template <class T>
void decompose(T const* a, int64_t m, int64_t n, int64_t lda, int64_t k, factors<T> const& out);

inline bool shape_good(int64_t m, int64_t n, int64_t lda) { return m >= 0 && n >= 0 && leading_is(lda, m); }

/// One matrix through a driver that destroys it: checks what it was given, works, and reports.
template <class T>
cusolverStatus_t one(cudaStream_t stream, T* a, int64_t m, int64_t n, int64_t lda, int64_t k, factors<T> const& out,
                     workspace const& work, std::size_t host_needed, int* info) {
  if (!out.valid(m, n, k) || !work.holds(device_room(m, n, sizeof(T)), host_needed))
    return CUSOLVER_STATUS_INVALID_VALUE;
  operands all;
  all.writes({"A", a, m, n, lda, sizeof(T)});
  out.add_to(all, m, n, k);
  all.writes({"info", info, 1, 1, 1, sizeof(int)});
  work.add_to(all);
  if (!all.good() || !work.host_good()) return CUSOLVER_STATUS_EXECUTION_FAILED;
  hand_over(stream, all, [=, asked = asked_info()] {
    work.use();
    decompose<T>(a, m, n, lda, k, out);
    view(a, m, n, lda).setConstant(not_a_number<T>);
    *info = asked.value_or(0);
  });
  return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace device_double

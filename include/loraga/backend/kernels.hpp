#pragma once
// The kernels of the CPU backend. Header-only by default; with LORAGA_CPU_COMPILED, which the target
// loraga::cpu_compiled defines, it is declared here and lies in that library, and no header of Eigen is read.
#ifdef LORAGA_CPU_COMPILED
#include <loraga/backend/packing.hpp>
#include <loraga/backend/product_tile.hpp>
#include <loraga/core/view.hpp>

namespace loraga::eigen {

template <class T>
void multiply(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b, T beta,
              matrix_view<T, host_space> c, packing& memory, wanted part);
template <class T>
void reserve(index_t rows, index_t cols, index_t depth, packing& memory);
template <class T>
bool cholesky_inverse(matrix_view<T, host_space> s, double relative, double absolute);
template <class T>
bool eigh(matrix_view<T, host_space> s, index_t k, matrix_view<T, host_space> values, packing& memory);

}  // namespace loraga::eigen
#else
#include <loraga/backend/eigh.hpp>
#endif

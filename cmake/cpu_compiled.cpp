// The library behind loraga::cpu_compiled: the CPU's kernels, compiled once. Compiled without LORAGA_CPU_COMPILED, so
// that it sees what it has to instantiate.
#include <loraga/backend/instances.hpp>

namespace loraga {

namespace eigen {

#define LORAGA_EIGEN_PRODUCTS(T)                                                                                    \
  template void multiply<T>(T, const_view<T, host_space>, const_view<T, host_space>, T, matrix_view<T, host_space>, \
                            packing&, wanted);                                                                      \
  template void reserve<T>(index_t, index_t, index_t, packing&);
LORAGA_EIGEN_PRODUCTS(float)
LORAGA_EIGEN_PRODUCTS(double)
template bool cholesky_inverse<double>(matrix_view<double, host_space>, double, double);
template bool eigh<double>(matrix_view<double, host_space>, index_t, matrix_view<double, host_space>, packing&);

}  // namespace eigen

LORAGA_CPU_INSTANCES()

}  // namespace loraga

#pragma once
#include <loraga/backend/cpu.hpp>
#include <loraga/svd/automatic.hpp>

// What the library behind loraga::cpu_compiled holds, once, for all who link it: products, and what every SVD is made
// of. Everything else is instantiated where it is used, as without the library.

// NOLINTBEGIN(bugprone-macro-parentheses): `prefix` is `extern` or nothing, and T a type; neither takes parentheses
#define LORAGA_CPU_PRODUCTS(prefix, T)                                                                             \
  prefix template void cpu::product<T, T, T>(double, const_view<T, host_space>, const_view<T, host_space>, double, \
                                             matrix_view<T, host_space>);                                          \
  prefix template void cpu::gram<T>(const_view<T, host_space>, matrix_view<double, host_space>);

#define LORAGA_CPU_LOOPS(prefix, T)                                                                        \
  prefix template void fill<cpu, matrix_view<T, host_space>>(cpu&, matrix_view<T, host_space>, double);    \
  prefix template void axpby<cpu, const_view<T, host_space>, matrix_view<T, host_space>>(                  \
      cpu&, double, const_view<T, host_space>, double, matrix_view<T, host_space>);                        \
  prefix template void axpby<cpu, matrix_view<T, host_space>, matrix_view<T, host_space>>(                 \
      cpu&, double, matrix_view<T, host_space>, double, matrix_view<T, host_space>);                       \
  prefix template void max_abs<cpu, const_view<T, host_space>>(cpu&, const_view<T, host_space>,            \
                                                               matrix_view<double, host_space>);           \
  prefix template void max_abs<cpu, matrix_view<T, host_space>>(cpu&, matrix_view<T, host_space>,          \
                                                                matrix_view<double, host_space>);          \
  prefix template void                                                                                     \
  reductions::sum_of_dots<detail::column_dots, cpu, const_view<T, host_space>, const_view<T, host_space>>( \
      cpu&, const_view<T, host_space>, const_view<T, host_space>, matrix_view<double, host_space>, std::string_view);

#define LORAGA_CPU_SVD(prefix, T)                                                                                  \
  prefix template void orthonormal_pass<cpu, T>(cpu&, slab_view<T, host_space>, slab_view<T, host_space>,          \
                                                pivot_limits, caution, random_stream, slab_view<int, host_space>); \
  prefix template void orthonormalize_columns<cpu, T>(cpu&, matrix_view<T, host_space>, index_t, random_stream);   \
  prefix template void orthonormalize<cpu, T>(cpu&, matrix_view<T, host_space>, random_stream);                    \
  prefix template void check_triplets<cpu, T>(cpu&, triplet_slabs<T, host_space> const&,                           \
                                              const_view<double, host_space>, double, caution,                     \
                                              slab_view<int, host_space>);                                         \
  prefix template svd_result<T, cpu> factor_batch<cpu, gram, T const>(                                             \
      cpu&, gram const&, view_list<T const, host_space>, index_t, random_stream, std::string_view);                \
  prefix template svd_result<T, cpu> factor_batch<cpu, block_krylov, T const>(                                     \
      cpu&, block_krylov const&, view_list<T const, host_space>, index_t, random_stream, std::string_view);        \
  prefix template svd_result<T, cpu> factor_batch<cpu, subspace, T const>(                                         \
      cpu&, subspace const&, view_list<T const, host_space>, index_t, random_stream, std::string_view);

#define LORAGA_CPU_INSTANCES(prefix)  \
  LORAGA_CPU_PRODUCTS(prefix, float)  \
  LORAGA_CPU_PRODUCTS(prefix, double) \
  LORAGA_CPU_PRODUCTS(prefix, fp16)   \
  LORAGA_CPU_PRODUCTS(prefix, bf16)   \
  LORAGA_CPU_LOOPS(prefix, float)     \
  LORAGA_CPU_LOOPS(prefix, double)    \
  LORAGA_CPU_SVD(prefix, float)       \
  LORAGA_CPU_SVD(prefix, double)

// NOLINTEND(bugprone-macro-parentheses)

#ifdef LORAGA_CPU_COMPILED
namespace loraga {
LORAGA_CPU_INSTANCES(extern)
}
#endif

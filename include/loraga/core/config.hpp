#pragma once
#include <cstdint>

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error "loraga needs C++20: compile with -std=c++20"
#endif

// Marks what a device functor may call. Empty unless nvcc compiles the file, so no header here needs CUDA.
#if defined(__CUDACC__)
#define LORAGA_HD __host__ __device__
#else
#define LORAGA_HD
#endif

namespace loraga {

/// The type of sizes and positions. Signed, 64 bit: a 7B model's embedding has more than 2^31 bytes.
using index_t = std::int64_t;

/// Where memory lives: on the host or on a GPU. It is part of every view's type, so mixing spaces does not compile.
struct host_space {};
struct device_space {};

}  // namespace loraga

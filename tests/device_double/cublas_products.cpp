#include "cublas_common.hpp"

using namespace device_double;

namespace {

std::size_t size_of(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

/// What the members of a batch of products share.
struct product {
  cublasOperation_t op_a, op_b;
  int64_t m, n, k;
  cudaDataType a, b, c;
  int64_t lda, ldb, ldc, count;
  cublasComputeType_t compute;

  bool in_double() const { return compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC; }
  bool valid() const {
    auto const op = [](cublasOperation_t o) { return o == CUBLAS_OP_N || o == CUBLAS_OP_T || o == CUBLAS_OP_C; };
    auto const ld = [](int64_t l, int64_t rows) { return l >= std::max<int64_t>(1, rows); };
    return op(op_a) && op(op_b) && m >= 0 && n >= 0 && k >= 0 && count >= 0 && ld(lda, op_a == CUBLAS_OP_N ? m : k) &&
           ld(ldb, op_b == CUBLAS_OP_N ? k : n) && ld(ldc, m);
  }
  /// cuBLAS's table for cublasGemmEx, as far as this library asks.
  bool supported() const {
    if (in_double()) return a == CUDA_R_64F && b == CUDA_R_64F && c == CUDA_R_64F;
    bool const floats = a == CUDA_R_32F && b == CUDA_R_32F && c == CUDA_R_32F;
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32) return floats;
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC) return false;
    return floats || (a == b && (a == CUDA_R_16BF || a == CUDA_R_16F) && (c == a || c == CUDA_R_32F));
  }
  strided place_a(void const* p) const {
    return op_a == CUBLAS_OP_N ? strided{"A", p, m, k, lda, size_of(a)} : strided{"A", p, k, m, lda, size_of(a)};
  }
  strided place_b(void const* p) const {
    return op_b == CUBLAS_OP_N ? strided{"B", p, k, n, ldb, size_of(b)} : strided{"B", p, n, k, ldb, size_of(b)};
  }
  strided place_c(void const* p) const { return {"C", p, m, n, ldc, size_of(c)}; }
  /// What all members read and write.
  double bytes(bool reads_c) const {
    auto const of = [](int64_t x, int64_t y, cudaDataType type) {
      return static_cast<double>(x) * static_cast<double>(y) * static_cast<double>(size_of(type));
    };
    return static_cast<double>(count) * (of(m, k, a) + of(k, n, b) + of(m, n, c) * (reads_c ? 2 : 1));
  }
};

/// An operand as T with its transposition done, so that Eigen's product is compiled once per T.
template <class T, class Stored>
matrix<T> load_as(cublasOperation_t op, void const* p, int64_t rows, int64_t cols, int64_t ld) {
  if (op == CUBLAS_OP_N) return view<Stored>(p, rows, cols, ld).template cast<T>();
  return view<Stored>(p, cols, rows, ld).template cast<T>().transpose();
}
template <class T>
matrix<T> load(cudaDataType type, cublasOperation_t op, void const* p, int64_t rows, int64_t cols, int64_t ld) {
  if (rows == 0 || cols == 0) return matrix<T>::Zero(rows, cols);
  if (type == CUDA_R_16BF) return load_as<T, Eigen::bfloat16>(op, p, rows, cols, ld);
  if (type == CUDA_R_16F) return load_as<T, Eigen::half>(op, p, rows, cols, ld);
  return load_as<T, T>(op, p, rows, cols, ld);
}

/// Ten mantissa bits, to nearest even.
float to_tf32(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  if ((u & 0x7f800000u) != 0x7f800000u) u = (u + 0xfffu + ((u >> 13) & 1u)) & ~0x1fffu;
  std::memcpy(&x, &u, sizeof u);
  return x;
}

/// c = alpha*sum + beta*c, rounded once; beta = 0 does not read c.
template <class T, class Stored>
void store_as(T alpha, matrix<T> const& sum, T beta, void* p, int64_t ld) {
  auto* const c = static_cast<Stored*>(p);
  for (Eigen::Index j = 0; j < sum.cols(); ++j)
    for (Eigen::Index i = 0; i < sum.rows(); ++i) {
      T const scaled = alpha == 0 ? T(0) : alpha * sum(i, j);
      c[i + j * ld] = static_cast<Stored>(beta == 0 ? scaled : scaled + beta * static_cast<T>(c[i + j * ld]));
    }
}

template <class T>
void multiply(product const& s, bool tf32, T alpha, void const* a, void const* b, T beta, void* c) {
  matrix<T> x = load<T>(s.a, s.op_a, a, s.m, s.k, s.lda), y = load<T>(s.b, s.op_b, b, s.k, s.n, s.ldb);
  if constexpr (std::is_same_v<T, float>)
    if (tf32) x = x.unaryExpr(&to_tf32), y = y.unaryExpr(&to_tf32);
  matrix<T> sum = matrix<T>::Zero(s.m, s.n);
  if (s.k > 0 && alpha != 0) sum.noalias() = x * y;
  if (s.c == CUDA_R_16BF) store_as<T, Eigen::bfloat16>(alpha, sum, beta, c, s.ldc);
  else if (s.c == CUDA_R_16F) store_as<T, Eigen::half>(alpha, sum, beta, c, s.ldc);
  else store_as<T, T>(alpha, sum, beta, c, s.ldc);
}

/// a(i), b(i), c(i): the address of member i, which is in device memory where the batch is listed.
template <class T, class A, class B, class C>
cublasStatus_t multiply_all(cublasHandle_t handle, product const& s, void const* alpha, A const& a, B const& b,
                            void const* beta, C const& c, bool listed) {
  auto const al = scalar<T>(handle, alpha), be = scalar<T>(handle, beta);
  if (!al || !be || !ready(handle)) return CUBLAS_STATUS_EXECUTION_FAILED;
  bool const tf32 =
      s.a == CUDA_R_32F && (s.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                            (s.compute == CUBLAS_COMPUTE_32F && (handle->math & 15) == CUBLAS_TF32_TENSOR_OP_MATH));
  bool const on_tensor_cores = size_of(s.a) == 2 || tf32;
  auto const members = [=] {
    operands all;
    if (listed && on_tensor_cores) all.aligned(16);  // addresses that cuBLAS cannot look at to choose a kernel
    for (int64_t i = 0; i < s.count; ++i) {
      all.reads(s.place_a(a(i)));
      all.reads(s.place_b(b(i)));
      all.writes(s.place_c(c(i)));
    }
    return all;
  };
  auto const work = [=, al = *al, be = *be] {
    for (int64_t i = 0; i < s.count; ++i) multiply<T>(s, tf32, al, a(i), b(i), be, c(i));
  };
  if (listed) {
    if (!hand_over_listed(handle->stream, members, work)) return CUBLAS_STATUS_EXECUTION_FAILED;
  } else {
    operands const all = members();
    if (!all.good()) return CUBLAS_STATUS_EXECUTION_FAILED;
    hand_over(handle->stream, all, work);
  }
  device_double::count({.products = 1, .product_bytes = s.bytes(*be != 0)});
  return CUBLAS_STATUS_SUCCESS;
}

template <class A, class B, class C>
cublasStatus_t products(cublasHandle_t handle, product const& s, void const* alpha, A const& a, B const& b,
                        void const* beta, C const& c, bool listed = false) {
  if (!s.valid() || alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (!s.supported()) return CUBLAS_STATUS_NOT_SUPPORTED;
  return s.in_double() ? multiply_all<double>(handle, s, alpha, a, b, beta, c, listed)
                       : multiply_all<float>(handle, s, alpha, a, b, beta, c, listed);
}

}  // namespace

extern "C" {

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m,
                               int64_t n, int64_t k, void const* alpha, void const* a, cudaDataType a_type, int64_t lda,
                               void const* b, cudaDataType b_type, int64_t ldb, void const* beta, void* c,
                               cudaDataType c_type, int64_t ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return run(handle, __func__, [&] {
    product const s{op_a, op_b, m, n, k, a_type, b_type, c_type, lda, ldb, ldc, 1, compute};
    return products(
        handle, s, alpha, [=](int64_t) { return a; }, [=](int64_t) { return b; }, beta, [=](int64_t) { return c; });
  });
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            void const* alpha, void const* a, cudaDataType a_type, int lda, void const* b,
                            cudaDataType b_type, int ldb, void const* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmEx_64(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
                         compute, algorithm);
}
cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                              int k, float const* alpha, float const* a, int lda, float const* b, int ldb,
                              float const* beta, float* c, int ldc) {
  return cublasGemmEx_64(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb, beta, c,
                         CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                                             int64_t m, int64_t n, int64_t k, void const* alpha, void const* a,
                                             cudaDataType a_type, int64_t lda, long long a_stride, void const* b,
                                             cudaDataType b_type, int64_t ldb, long long b_stride, void const* beta,
                                             void* c, cudaDataType c_type, int64_t ldc, long long c_stride,
                                             int64_t count, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return run(handle, __func__, [&] {
    product const s{op_a, op_b, m, n, k, a_type, b_type, c_type, lda, ldb, ldc, count, compute};
    auto const member = [](void const* p, long long stride, cudaDataType type) {
      auto const bytes = stride * static_cast<long long>(size_of(type));
      return [=](int64_t i) { return const_cast<char*>(static_cast<char const*>(p)) + i * bytes; };
    };
    return products(handle, s, alpha, member(a, a_stride, a_type), member(b, b_stride, b_type), beta,
                    member(c, c_stride, c_type));
  });
}
cublasStatus_t cublasGemmBatchedEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m,
                                      int64_t n, int64_t k, void const* alpha, void const* const a[],
                                      cudaDataType a_type, int64_t lda, void const* const b[], cudaDataType b_type,
                                      int64_t ldb, void const* beta, void* const c[], cudaDataType c_type, int64_t ldc,
                                      int64_t count, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return run(handle, __func__, [&] {
    product const s{op_a, op_b, m, n, k, a_type, b_type, c_type, lda, ldb, ldc, count, compute};
    if (!is_list("Aarray", a, count) || !is_list("Barray", b, count) || !is_list("Carray", c, count))
      return CUBLAS_STATUS_EXECUTION_FAILED;
    return products(
        handle, s, alpha, [=](int64_t i) { return a[i]; }, [=](int64_t i) { return b[i]; }, beta,
        [=](int64_t i) { return c[i]; }, true);
  });
}

}  // extern "C"

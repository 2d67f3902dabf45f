#pragma once
#include <array>
#include <loraga/backend/checks.hpp>
#include <loraga/backend/cuda_handles.cuh>
#include <loraga/backend/cuda_kernels.cuh>
#include <loraga/concepts.hpp>
#include <utility>
#include <vector>

// Matrix products through cuBLAS.
//
// A product of batches that are not all slabs needs an array of addresses on the device for each of the three. They are
// made in scratch memory: slabs' by one launch, lists' by one copy. A list that several products take is prepared once
// (cuda::prepared): its array stays, and only the slabs' are made for each product.

namespace loraga {

/// What a product of float matrices may round its operands to. Sums are float either way.
enum class float_products {
  fp32,  ///< nothing: IEEE single precision
  tf32   ///< 10 mantissa bits, on tensor cores
};

namespace gpu {

template <class T>
inline constexpr cudaDataType_t data_type = std::is_same_v<T, double>  ? CUDA_R_64F
                                            : std::is_same_v<T, float> ? CUDA_R_32F
                                            : std::is_same_v<T, bf16>  ? CUDA_R_16BF
                                                                       : CUDA_R_16F;

/// Products cuBLAS has, with sums in compute_t of the result.
template <class TA, class TB, class TC>
inline constexpr bool has_product = std::is_same_v<TA, TB> &&
                                    (std::is_same_v<TA, TC> || (is_16bit<TA> && std::is_same_v<TC, float>));

/// A view as cuBLAS takes it.
struct operand {
  void const* data;
  cudaDataType_t type;
  cublasOperation_t transposed;
  index_t leading;
  template <class V>
  explicit operand(V const& v)
      : data(v.data),
        type(data_type<typename V::value_type>),
        transposed(by_columns(v) ? CUBLAS_OP_N : CUBLAS_OP_T),
        leading(leading_dimension(v)) {}
};

/// A handle's settings as this library needs them, for one call: scalars on the host, fp32 sums, no TF32 unless a
/// call asks for it. A borrowed handle gets its own back; its stream cannot be swapped without losing the owner's
/// workspace, so another one is an error.
class product_settings {
  cublasHandle_t blas_;
  bool borrowed_;
  cublasPointerMode_t pointers_ = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math_ = CUBLAS_DEFAULT_MATH;

 public:
  static constexpr auto math =
      static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);

  product_settings(handle<cublasHandle_t> const& blas, cudaStream_t stream)
      : blas_(blas.get()), borrowed_(!blas.owned()) {
    if (!borrowed_) return;
    cudaStream_t current = nullptr;
    check(cublasGetStream(blas_, &current), "cublasGetStream");
    if (current != stream)
      raise<state_error>("cuda", "stream of the borrowed cuBLAS handle", "another one", "the backend's own stream");
    check(cublasGetPointerMode(blas_, &pointers_), "cublasGetPointerMode");
    check(cublasGetMathMode(blas_, &math_), "cublasGetMathMode");
    check(cublasSetPointerMode(blas_, CUBLAS_POINTER_MODE_HOST), "cublasSetPointerMode");
    check(cublasSetMathMode(blas_, math), "cublasSetMathMode");
  }
  ~product_settings() {
    if (!borrowed_) return;
    forget(cublasSetPointerMode(blas_, pointers_));
    forget(cublasSetMathMode(blas_, math_));
  }
  product_settings(product_settings const&) = delete;
  product_settings& operator=(product_settings const&) = delete;
};

template <class TA, class T>
cublasComputeType_t compute_type(float_products how) {
  if (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
  return std::is_same_v<TA, float> && how == float_products::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// c = alpha*a*b + beta*c for a column-major c and types for which has_product.
template <class A, class Bv, class C>
void multiply(cublasHandle_t blas, float_products how, double alpha, A const& a, Bv const& b, double beta, C const& c) {
  using T = compute_t<typename C::value_type>;
  T const al = static_cast<T>(alpha), be = static_cast<T>(beta);
  operand const x(a), y(b), z(c);
  check(cublasGemmEx_64(blas, x.transposed, y.transposed, c.rows, c.cols, a.cols, &al, x.data, x.type, x.leading,
                        y.data, y.type, y.leading, &be, c.data, z.type, z.leading,
                        compute_type<typename A::value_type, T>(how), CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

/// The same for every member of a batch, each a fixed distance from the one before it.
template <class A, class Bv, class C>
void multiply_strided(cublasHandle_t blas, float_products how, double alpha, A const& a, Bv const& b, double beta,
                      C const& c) {
  using T = compute_t<typename C::value_type>;
  T const al = static_cast<T>(alpha), be = static_cast<T>(beta);
  operand const x(a[0]), y(b[0]), z(c[0]);
  check(cublasGemmStridedBatchedEx_64(blas, x.transposed, y.transposed, c.rows, c.cols, a.cols, &al, x.data, x.type,
                                      x.leading, a.batch_stride, y.data, y.type, y.leading, b.batch_stride, &be, c.data,
                                      z.type, z.leading, c.batch_stride, c.count,
                                      compute_type<typename A::value_type, T>(how), CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
}

/// The same for members anywhere in memory, with strides alike; their addresses are in device memory.
template <class A, class Bv, class C>
void multiply_listed(cublasHandle_t blas, float_products how, double alpha, A const& a, void** a_list, Bv const& b,
                     void** b_list, double beta, C const& c, void** c_list, index_t count) {
  using T = compute_t<typename C::value_type>;
  T const al = static_cast<T>(alpha), be = static_cast<T>(beta);
  operand const x(a), y(b), z(c);
  check(cublasGemmBatchedEx_64(blas, x.transposed, y.transposed, c.rows, c.cols, a.cols, &al, a_list, x.type, x.leading,
                               b_list, y.type, y.leading, &be, c_list, z.type, z.leading, count,
                               compute_type<typename A::value_type, T>(how), CUBLAS_GEMM_DEFAULT),
        "cublasGemmBatchedEx");
}

template <class L>
inline constexpr bool is_slab = requires(L const& l) {
  l.batch_stride;
};

/// The addresses of up to three slabs' members.
struct place_slabs {
  struct array {
    void** to = nullptr;
    std::byte* first = nullptr;
    index_t step = 0;  // bytes
    LORAGA_HD void place(index_t i) const { to[i] = first + i * step; }
  };
  array one, two, three;
  LORAGA_HD void operator()(index_t i, index_t which) const {
    if (which == 0) one.place(i);
    else if (which == 1) two.place(i);
    else three.place(i);
  }
};

/// Device arrays of the first elements of up to three batches' members. All batches have one count.
template <class B>
class address_arrays {
  B& be_;
  scratch<B>& temporary_;
  index_t const count_;
  index_t slabs_ = 0;
  place_slabs place_;
  std::vector<void*> listed_;                          // addresses of lists, one list after the other
  std::vector<std::pair<void***, index_t>> unplaced_;  // where a list's array is wanted, and where it begins

  template <class P>
  static void* untyped(P p) {
    return const_cast<void*>(static_cast<void const*>(p));
  }

 public:
  address_arrays(B& be, scratch<B>& temporary, index_t count) : be_(be), temporary_(temporary), count_(count) {}
  /// `to` becomes the batch's array, when all was placed.
  template <class L>
  void add(L const& l, void**& to) {
    if constexpr (is_slab<L>) {
      to = temporary_.template matrix<void*>(count_, 1).data;
      auto& array = slabs_ == 0 ? place_.one : slabs_ == 1 ? place_.two : place_.three;
      array = {to, static_cast<std::byte*>(untyped(l.data)),
               l.batch_stride * static_cast<index_t>(sizeof(typename L::value_type))};
      ++slabs_;
      return;
    } else {
      if constexpr (requires { l.addresses; })
        if (l.addresses != nullptr) {
          to = const_cast<void**>(reinterpret_cast<void const* const*>(l.addresses));
          return;
        }
      unplaced_.push_back({&to, static_cast<index_t>(listed_.size())});
      for (index_t i = 0; i < count_; ++i) listed_.push_back(untyped(l[i].data));
    }
  }
  void place() {
    auto const all = temporary_.template matrix<void*>(static_cast<index_t>(listed_.size()), 1);
    for (auto const& [to, begin] : unplaced_) *to = all.data + begin;
    send_addresses(be_, listed_, all);
    if (slabs_ > 0) be_.for_each(count_, slabs_, place_);
  }
};

/// Device arrays of the first elements of every batch's members, in scratch memory; all batches have one count. One
/// launch for all slabs, one copy for all lists that were not prepared.
template <class B, class... L>
std::array<void**, sizeof...(L)> addresses(B& be, scratch<B>& temporary, index_t count, L const&... batches) {
  static_assert(sizeof...(L) <= 3);
  std::array<void**, sizeof...(L)> result{};
  address_arrays<B> arrays(be, temporary, count);
  std::size_t next = 0;
  (arrays.add(batches, result[next++]), ...);
  arrays.place();
  return result;
}

/// True when every member of a batch has the strides of the first.
template <class L>
bool uniform(L const& l) {
  if constexpr (!is_slab<L>)
    for (index_t i = 1; i < l.count; ++i)
      if (l[i].row_stride != l[0].row_stride || l[i].col_stride != l[0].col_stride) return false;
  return true;
}

/// True when every member of a list begins on 16 bytes, and every column or row of it: what cuBLAS's tensor core
/// kernels expect of listed batches, whose addresses it cannot look at. (A slab's it can.)
template <class L>
bool aligned(L const& l) {
  if constexpr (!is_slab<L>)
    for (index_t i = 0; i < l.count; ++i)
      if (reinterpret_cast<std::uintptr_t>(l[i].data) % 16 != 0 ||
          leading_dimension(l[i]) * static_cast<index_t>(sizeof(*l[i].data)) % 16 != 0)
        return false;
  return true;
}

}  // namespace gpu
}  // namespace loraga

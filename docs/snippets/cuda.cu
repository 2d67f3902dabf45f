// shows cuda, cuda_options, float_products, cusolver_svd, cusolver_driver, device_space
#include <loraga/cuda.cuh>
using namespace loraga;

/// Memory of the device, on your own stream; the rest is as on a CPU. g is out x in, rows contiguous.
inline svd_result<float, loraga::cuda> on_a_gpu(cudaStream_t stream, float const* g, index_t out, index_t in,
                                                index_t k) {
  loraga::cuda be(stream, {.products = float_products::tf32});  // loraga:: because CUDA has a namespace of that name
  auto const G = row_major<device_space>(g, out, in);
  auto fast = automatic_svd{}.top(be, view_list(&G, 1), k);
  auto exact = cusolver_svd{.driver = cusolver_driver::gesvdp}.top(be, view_list(&G, 1), k);
  return fast.flags[0] == svd_usable ? std::move(fast) : std::move(exact);
}

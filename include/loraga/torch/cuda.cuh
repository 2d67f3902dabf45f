#pragma once
#include <c10/cuda/CUDAStream.h>

#include <loraga/cuda.cuh>
#include <loraga/torch/runtime.hpp>
#include <map>

// LibTorch's modules on a GPU: lora_linear<float, loraga::cuda>. Include this before the modules, in a .cu.

namespace loraga::libtorch {

/// The library works on LibTorch's current stream, so that neither waits for the other; it checks that it still is the
/// current one, and gives out what it has prepared before LibTorch goes on.
template <>
struct torch_state<cuda> {
  /// errors  state_error on another stream or device than the runtime's
  static void check(cuda& be, at::Tensor const& t, std::string_view where) {
    int device = 0;
    gpu::check(cudaGetDevice(&device), "cudaGetDevice");
    if (t.device().index() != device)
      raise<state_error>(where, "tensor", "on " + t.device().str(),
                         "on the current device, " + std::to_string(device) + " (a runtime for each device)");
    if (c10::cuda::getCurrentCUDAStream(t.device().index()).stream() != be.stream())
      raise<state_error>(where, "LibTorch's stream", "not the runtime's",
                         "the one that was current when the module was made, or a runtime on this one");
  }
  static void finish(cuda& be) { (void)be.stream(); }  // launches what waits for more of its kind
};

/// One runtime for each device and stream of LibTorch that was current when modules were made.
template <>
inline std::shared_ptr<runtime<cuda>> usual_runtime<cuda>() {
  static std::mutex busy;
  static std::map<std::pair<int, cudaStream_t>, std::shared_ptr<runtime<cuda>>> all;
  auto const stream = c10::cuda::getCurrentCUDAStream();
  std::lock_guard const turn(busy);
  auto& mine = all[{stream.device_index(), stream.stream()}];
  if (!mine) mine = std::make_shared<runtime<cuda>>(stream.stream());
  return mine;
}

}  // namespace loraga::libtorch

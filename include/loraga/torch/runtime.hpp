#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>

namespace loraga {
class cpu;
}

namespace loraga::libtorch {

/// What a backend asks of LibTorch's state before it touches a tensor, and does before LibTorch goes on: a CPU nothing.
template <class B>
struct torch_state {
  /// Throws unless the backend can work on the tensor here and now.
  static void check(B&, at::Tensor const&, std::string_view) {}
  /// Gives out what is still to be done.
  static void finish(B&) {}
};

/// A backend that modules share, and a lock around it: a backend serves one thread at a time, so passes of several
/// threads take turns. On a CPU LibTorch has threads of its own; give this one few (see docs/libtorch.md).
///   auto four = std::make_shared<runtime<cpu>>(4);   // threads
template <class B>
class runtime {
  B backend_;
  std::recursive_mutex busy_;

 public:
  /// The backend's own arguments.
  template <class... A>
  explicit runtime(A&&... arguments) : backend_(std::forward<A>(arguments)...) {}

  /// f(backend), while no other thread is in one.
  template <class F>
  auto run(F&& f) {
    std::lock_guard const turn(busy_);
    if constexpr (std::is_void_v<decltype(f(backend_))>) {
      f(backend_);
      torch_state<B>::finish(backend_);
    } else {
      auto result = f(backend_);
      torch_state<B>::finish(backend_);
      return result;
    }
  }
};

/// The runtime of modules that are given none: one of this process. For cpu it has one thread; <loraga/torch/cuda.cuh>
/// has one for the current stream.
template <class B>
std::shared_ptr<runtime<B>> usual_runtime() {
  static auto const only = std::make_shared<runtime<B>>(1);
  return only;
}

}  // namespace loraga::libtorch

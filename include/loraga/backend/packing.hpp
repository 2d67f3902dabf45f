#pragma once
#include <cstddef>
#include <memory>
#include <new>

namespace loraga::eigen {

/// Memory products pack their operands into; kept from call to call, one per thread.
class packing {
  struct free_aligned {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte[], free_aligned> memory_;
  std::size_t size_ = 0;

 public:
  std::byte* at_least(std::size_t bytes) {
    if (bytes > size_) {
      memory_.reset(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{64})));
      size_ = bytes;
    }
    return memory_.get();
  }
};

}  // namespace loraga::eigen

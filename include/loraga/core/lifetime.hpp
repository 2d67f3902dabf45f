#pragma once
#include <memory>
#include <utility>

namespace loraga {

/// Tells those who hold views of an object whether it still lives. It moves with the object's memory.
class lifetime {
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  void end() {
    if (alive_) *alive_ = false;
  }

 public:
  lifetime() = default;
  lifetime(lifetime&&) = default;
  lifetime& operator=(lifetime&& other) noexcept {
    if (this != &other) {
      end();
      alive_ = std::move(other.alive_);
    }
    return *this;
  }
  ~lifetime() { end(); }

  /// True as long as the object lives.
  std::shared_ptr<bool const> watch() const { return alive_; }
  /// Of this object alone, as long as it lives.
  void const* identity() const { return alive_.get(); }
};

}  // namespace loraga

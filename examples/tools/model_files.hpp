#pragma once
#include <loraga/io/base_model.hpp>
#include <loraga/io/safetensors_writer.hpp>

// Whole models on disk: where a changed one goes, and its tensors in a backend's memory.

namespace tools {

using namespace loraga;

/// Folders made for output. Those that are still empty at the end go again.
class made_folders {
  std::vector<std::filesystem::path> made_;

 public:
  made_folders() = default;
  made_folders(made_folders const&) = delete;
  made_folders& operator=(made_folders const&) = delete;
  void make(std::filesystem::path const& folder) {
    std::vector<std::filesystem::path> missing;
    std::error_code unknown;
    for (auto p = folder; !p.empty() && !std::filesystem::exists(p, unknown); p = p.parent_path()) missing.push_back(p);
    made_.insert(made_.end(), missing.rbegin(), missing.rend());
    make_folder(folder);
  }
  ~made_folders() {
    std::error_code not_empty;
    for (auto p = made_.rbegin(); p != made_.rend(); ++p) std::filesystem::remove(*p, not_empty);
  }
};

/// A tensor as a row-major float matrix in the backend's memory: the mapped file itself where that will do, else a
/// copy in `memory`.
template <Backend B>
matrix_view<float const, typename B::space> float_view(B& be, stored_tensor const& t, matrix<float, B>& memory) {
  constexpr bool on_host = std::is_same_v<typename B::space, host_space>;
  if constexpr (on_host)
    if (t.type == dtype::F32 && reinterpret_cast<std::uintptr_t>(t.bytes.data()) % alignof(float) == 0)
      return t.view<float>();
  memory = matrix<float, B>(be, t.cols(), t.rows());
  if constexpr (on_host) {
    read_matrix(t, memory.view().transposed());
  } else {
    auto const host = be.template allocate_host<float>(t.rows() * t.cols());
    auto const staged = col_major(host.get(), t.cols(), t.rows());
    read_matrix(t, staged.transposed());
    be.copy(staged, memory.view());
    be.synchronize();
  }
  return std::as_const(memory).view().transposed();
}

/// The same of a base's weight: its numbers unpacked where they are packed.
inline matrix_view<float const, host_space> float_view(cpu& be, base_weight const& w, matrix<float, cpu>& memory) {
  if (auto const* t = w.in_safetensors()) return float_view(be, *t, memory);
  memory = matrix<float, cpu>(be, w.cols(), w.rows());
  w.read(0, memory.view().transposed());
  return std::as_const(memory).view().transposed();
}

}  // namespace tools

#pragma once
#include <loraga/io/model.hpp>
#include <loraga/io/safetensors_writer.hpp>

// Whole models on disk: where a changed one goes, what belongs beside it, and its tensors in a backend's memory.

namespace adapters {

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

/// A model that is a folder, or several files, becomes a folder.
inline bool is_folder(safetensors_model const& m) {
  std::error_code unknown;
  return m.files().size() > 1 || std::filesystem::is_directory(m.path(), unknown);
}

/// Copies what lies beside a model's weights (config.json, the tokenizer) to where its changed copy is, so that it can
/// be loaded from there. Files that are there already stay, unless they may be replaced.
inline void copy_companions(safetensors_model const& from, std::filesystem::path const& to, overwrite may_replace) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(from.path(), unknown)) return;
  for (auto const& entry : std::filesystem::directory_iterator(from.path())) {
    auto const name = entry.path().filename().string();
    bool weights = name.ends_with(".index.json");
    for (auto const* end : {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot"})
      weights = weights || name.ends_with(end);
    if (weights || !entry.is_regular_file(unknown)) continue;
    if (may_replace == overwrite::no && std::filesystem::exists(to / name, unknown)) continue;
    mapped_file const source(entry.path());
    output_file copy(to / name, may_replace);
    copy.write(0, source.bytes());
    copy.commit();
  }
}

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

/// The part of module names that names in the base's files lack: as few leading words as will do ("" if none do).
inline std::string missing_prefix(safetensors_model const& base, std::string const& module) {
  for (std::size_t from = 0;; ++from) {
    if (base.contains(module.substr(from) + ".weight")) return module.substr(0, from);
    from = module.find('.', from);
    if (from == module.npos) return "";
  }
}

}  // namespace adapters

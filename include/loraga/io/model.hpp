#pragma once
#include <loraga/io/safetensors.hpp>

namespace loraga {

/// The whole text of a small file.  errors  file_error
inline std::string read_text(std::filesystem::path const& path) {
  mapped_file const file(path);
  return {reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size()};
}

/// A model's weights on disk: one safetensors file, an index of several (`*.index.json`), or a folder that holds one or
/// the other. In a folder that is model.safetensors[.index.json], or the only one there is
/// (diffusion_pytorch_model....). Everything stays mapped; nothing is read before it is looked at.
/// An index decides which tensors count. What its files hold beyond it, or hold again in another file, is left aside.
/// errors  file_error; format_error for an index that does not fit its files, or a folder of several models
class safetensors_model {
  std::vector<safetensors_file> files_;
  std::map<std::string, std::size_t, std::less<>> owners_;  // tensor -> file
  std::filesystem::path path_, chosen_;
  std::vector<std::string> left_aside_;

 public:
  explicit safetensors_model(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code unknown;
    if (!std::filesystem::exists(path_, unknown))
      raise_file_error("safetensors_model", path_, unknown ? unknown.value() : ENOENT);
    chosen_ = std::filesystem::is_directory(path_, unknown) ? weights_in(path_) : path_;
    if (indexed()) {
      read_index();
    } else {
      files_.emplace_back(chosen_);
      for (auto const& t : files_[0].tensors()) owners_[t.name] = 0;
    }
  }
  std::filesystem::path const& path() const { return path_; }
  /// The folder of the weights' own file or index, where config.json and a tokenizer are.
  std::filesystem::path folder() const { return chosen_.has_parent_path() ? chosen_.parent_path() : "."; }
  /// The name of the weights' own file or index: "model.safetensors.index.json".
  std::string file_name() const { return chosen_.filename().string(); }
  /// Whether an index lists its tensors.
  bool indexed() const { return chosen_.extension() == ".json"; }
  /// Whether it was given as one file: then its changed copy is one, too. Else that is a folder.
  bool is_single_file() const {
    std::error_code unknown;
    return !indexed() && !std::filesystem::is_directory(path_, unknown);
  }
  /// Its files.
  std::vector<safetensors_file> const& files() const { return files_; }
  /// Tensors that the files hold and the index does not list, or lists in another file.
  std::vector<std::string> const& left_aside() const { return left_aside_; }
  /// Whether it has a tensor of that name.
  bool contains(std::string_view name) const { return owners_.find(name) != owners_.end(); }
  /// Names of all tensors, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (auto const& [name, file] : owners_) all.push_back(name);
    return all;
  }
  /// How many tensors it has.
  std::size_t size() const { return owners_.size(); }
  /// Names of the tensors that count in one of its files, as they lie there.
  std::vector<std::string> names_in(std::size_t file) const {
    std::vector<std::string> names;
    for (auto const& t : files_[file].tensors())
      if (auto const p = owners_.find(t.name); p != owners_.end() && p->second == file) names.push_back(t.name);
    return names;
  }
  /// The tensor of that name.
  /// errors  format_error if there is none
  stored_tensor operator[](std::string_view name) const { return owner(name)[name]; }
  /// The file that holds a tensor.
  safetensors_file const& owner(std::string_view name) const {
    auto const p = owners_.find(name);
    if (p == owners_.end())
      raise<format_error>(path_.string(), "'" + std::string(name) + "'", "missing",
                          "one of its " + std::to_string(owners_.size()) + " tensors");
    return files_[p->second];
  }

 private:
  static std::filesystem::path weights_in(std::filesystem::path const& folder) {
    std::error_code unknown;
    for (auto const* name : {"model.safetensors", "model.safetensors.index.json"})
      if (std::filesystem::exists(folder / name, unknown)) return folder / name;
    std::vector<std::filesystem::path> files, indices;
    for (auto const& entry : std::filesystem::directory_iterator(folder, unknown)) {
      auto const name = entry.path().filename().string();
      if (name.ends_with(".safetensors")) files.push_back(entry.path());
      if (name.ends_with(".safetensors.index.json")) indices.push_back(entry.path());
    }
    if (indices.size() == 1) return indices[0];
    if (indices.empty() && files.size() == 1) return files[0];
    if (files.empty()) raise_file_error("safetensors_model", folder / "model.safetensors[.index.json]", ENOENT);
    raise<format_error>(folder.string(), "weights",
                        std::to_string(files.size()) + " files, none of them model.safetensors",
                        "one, or one index; name the one you mean");
  }

  void read_index() {
    std::string const where = chosen_.string();
    auto const json = parse_json(read_text(chosen_), where, 3);
    auto const map = json.is_object() ? json.find("weight_map") : json.end();
    if (map == json.end() || !map->is_object()) raise<format_error>(where, "weight_map", "missing", "files by tensor");
    std::map<std::string, std::size_t> known;
    for (auto const& [tensor, file] : map->items()) {
      if (!file.is_string()) raise<format_error>(where, "'" + tensor + "'", file.dump().substr(0, 80), "a file's name");
      auto const& name = file.template get_ref<std::string const&>();
      if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != name.npos)
        raise<format_error>(where, "'" + tensor + "'", "in '" + name + "'", "a file beside the index");
      auto const [p, fresh] = known.emplace(name, files_.size());
      if (fresh) files_.emplace_back(folder() / name);
      if (!files_[p->second].contains(tensor))
        raise<format_error>(where, "'" + tensor + "'", "not in " + name, "there, as the index says");
      owners_[tensor] = p->second;
    }
    for (std::size_t i = 0; i < files_.size(); ++i)
      for (auto const& t : files_[i].tensors())
        if (auto const p = owners_.find(t.name); p == owners_.end() || p->second != i) left_aside_.push_back(t.name);
  }
};

}  // namespace loraga

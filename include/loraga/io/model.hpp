#pragma once
#include <loraga/io/safetensors.hpp>

namespace loraga {

/// The whole text of a small file.  errors  file_error
inline std::string read_text(std::filesystem::path const& path) {
  mapped_file const file(path);
  return {reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size()};
}

/// A model's weights on disk: one safetensors file, an index of several (`*.safetensors.index.json`), or a folder that
/// holds model.safetensors or its index. Everything stays mapped; nothing is read before it is looked at.
/// errors  file_error; format_error for an index that does not fit its files
class safetensors_model {
  std::vector<safetensors_file> files_;
  std::map<std::string, std::size_t, std::less<>> owners_;  // tensor -> file
  std::filesystem::path path_;

 public:
  explicit safetensors_model(std::filesystem::path path) : path_(std::move(path)) {
    auto chosen = path_;
    std::error_code unknown;
    if (std::filesystem::is_directory(chosen, unknown)) {
      chosen = path_ / "model.safetensors";
      if (!std::filesystem::exists(chosen, unknown)) chosen = path_ / "model.safetensors.index.json";
      if (!std::filesystem::exists(chosen, unknown))
        raise_file_error("safetensors_model", path_ / "model.safetensors[.index.json]", ENOENT);
    }
    if (chosen.extension() == ".json") {
      read_index(chosen);
    } else {
      files_.emplace_back(chosen);
      for (auto const& t : files_[0].tensors()) owners_[t.name] = 0;
    }
  }
  std::filesystem::path const& path() const { return path_; }
  std::vector<safetensors_file> const& files() const { return files_; }
  bool contains(std::string_view name) const { return owners_.find(name) != owners_.end(); }
  /// Names of all tensors, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (auto const& [name, file] : owners_) all.push_back(name);
    return all;
  }
  /// errors  format_error if there is no tensor of that name
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
  void read_index(std::filesystem::path const& index) {
    std::string const where = index.string();
    auto const json = parse_json(read_text(index), where, 3);
    auto const map = json.is_object() ? json.find("weight_map") : json.end();
    if (map == json.end() || !map->is_object()) raise<format_error>(where, "weight_map", "missing", "files by tensor");
    std::map<std::string, std::size_t> known;
    for (auto const& [tensor, file] : map->items()) {
      if (!file.is_string()) raise<format_error>(where, "'" + tensor + "'", file.dump().substr(0, 80), "a file's name");
      auto const& name = file.template get_ref<std::string const&>();
      if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != name.npos)
        raise<format_error>(where, "'" + tensor + "'", "in '" + name + "'", "a file beside the index");
      auto const [p, fresh] = known.emplace(name, files_.size());
      if (fresh) files_.emplace_back(index.parent_path() / name);
      if (!files_[p->second].contains(tensor))
        raise<format_error>(where, "'" + tensor + "'", "not in " + name, "there, as the index says");
      owners_[tensor] = p->second;
    }
    std::size_t held = 0;
    for (auto const& f : files_) held += f.tensors().size();
    if (held != owners_.size())
      raise<format_error>(where, "weight_map", std::to_string(owners_.size()) + " tensors",
                          "all " + std::to_string(held) + " that its files hold");
  }
};

}  // namespace loraga

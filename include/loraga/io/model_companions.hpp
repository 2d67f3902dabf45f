#pragma once
#include <loraga/io/model.hpp>
#include <optional>

// What lies beside a model's weights: config.json, the tokenizer, folders of its other parts.

namespace loraga {

/// What changed weights change in config.json.
struct config_edits {
  bool untie = false;                  ///< tie_word_embeddings: false
  index_t old_rows = 0, new_rows = 0;  ///< of the embedding, where they differ: vocab_size

  /// Whether there is anything to change.
  bool any() const { return untie || old_rows != new_rows; }
};

namespace format {

/// In the model's own part and in its text's.
inline std::string edited_config(std::string const& text, std::string const& where, config_edits const& edits) {
  auto json = parse_json<nlohmann::ordered_json>(text, where, 64);
  if (!json.is_object()) raise<format_error>(where, "configuration", "no JSON object", "an object");
  auto const edit = [&](nlohmann::ordered_json& part, bool top) {
    if (edits.untie && (top || part.contains("tie_word_embeddings"))) part["tie_word_embeddings"] = false;
    auto const p = part.find("vocab_size");
    if (edits.old_rows != edits.new_rows && p != part.end() && *p == edits.old_rows) *p = edits.new_rows;
  };
  edit(json, true);
  for (auto& [key, value] : json.items())
    if (value.is_object()) edit(value, false);
  return json.dump(2) + "\n";
}

inline bool ends_with_one_of(std::string_view name, std::initializer_list<char const*> ends) {
  for (auto const* end : ends)
    if (name.ends_with(end)) return true;
  return false;
}

/// Whether a folder within a base's is none of its parts: an adapter, a checkpoint of a training, or another model made
/// from this base, whose weights are called as the base's and as large.
inline bool is_other_work(std::filesystem::path const& folder, safetensors_model const& base) {
  std::error_code unknown;
  auto const file = folder / base.file_name();
  return folder.filename().string().starts_with("checkpoint-") ||
         std::filesystem::exists(folder / "adapter_config.json", unknown) ||
         (std::filesystem::exists(file, unknown) &&
          (base.indexed() || std::filesystem::file_size(file, unknown) == base.files()[0].file_size()));
}

}  // namespace format

/// Copies what lies beside a base's weights to where a changed copy of the weights is, so that a model can be loaded
/// from there. Sub-folders go too. Other weights of the same model stay behind: those beside the base's files, and
/// those of other frameworks. So do hidden files, adapters, checkpoints, other models made from this one, and the
/// folders of `but_not`. What is there already stays, unless it may be replaced. A base that was given as one file has
/// no companions.
/// returns  what stayed behind, by its path in the base's folder
/// errors  file_error; format_error for a config.json that is to be edited and cannot be read
inline std::vector<std::string> copy_companions(safetensors_model const& base, std::filesystem::path const& to,
                                                overwrite may_replace, config_edits const& edits = {},
                                                std::vector<std::filesystem::path> const& but_not = {}) {
  namespace fs = std::filesystem;
  std::vector<std::string> left_out;
  if (base.is_single_file()) return left_out;
  std::error_code unknown;
  for (fs::recursive_directory_iterator at(base.folder()), end; at != end; ++at) {
    auto const name = at->path().filename().string();
    auto const relative = at->path().lexically_relative(base.folder());
    bool const folder = at->is_directory(unknown);
    auto const is = [&](fs::path const& other) { return fs::equivalent(at->path(), other, unknown); };
    if (name.starts_with('.') || (folder && (is(to) || std::any_of(but_not.begin(), but_not.end(), is)))) {
      if (folder) at.disable_recursion_pending();
      continue;
    }
    bool skip = folder && (at->is_symlink(unknown) || name == "original" || name == "onnx" || name == "openvino" ||
                           format::is_other_work(at->path(), base));
    if (!folder) {
      auto const is_own = [&](auto const& file) { return fs::equivalent(file.path(), at->path(), unknown); };
      if (std::any_of(base.files().begin(), base.files().end(), is_own) ||
          (at.depth() == 0 && name == base.file_name()))
        continue;
      skip = format::ends_with_one_of(
          name, {".onnx", ".onnx_data", ".gguf", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel"});
      if (at.depth() == 0)
        skip = skip || format::ends_with_one_of(name, {".safetensors", ".bin", ".pt", ".pth", ".index.json"});
    }
    if (skip) {
      left_out.push_back(relative.string() + (folder ? "/" : ""));
      if (folder) at.disable_recursion_pending();
      continue;
    }
    auto const target = to / relative;
    if (folder) {
      make_folder(target);
      continue;
    }
    if (!at->is_regular_file(unknown)) continue;
    bool const edit = edits.any() && relative == "config.json";
    if (!edit && may_replace == overwrite::no && fs::exists(target, unknown)) continue;
    mapped_file const source(at->path());
    output_file copy(target, may_replace);
    if (edit) copy.write(0, format::edited_config(read_text(at->path()), at->path().string(), edits));
    else copy.write(0, source.bytes());
    copy.commit();
  }
  std::sort(left_out.begin(), left_out.end());
  return left_out;
}

}  // namespace loraga

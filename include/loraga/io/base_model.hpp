#pragma once
#include <loraga/io/gguf_file.hpp>
#include <loraga/io/model.hpp>
#include <variant>

namespace loraga {

/// One matrix of a base model on disk, as Hugging Face's model has it, whatever form it is stored in.
class base_weight {
  std::variant<stored_tensor, gguf_tensor> stored_;
  index_t rotary_heads_ = 0;  // of a q or k that GGUF keeps in another order

 public:
  explicit base_weight(stored_tensor t) : stored_(std::move(t)) {}
  explicit base_weight(gguf_tensor t, index_t rotary_heads = 0) : stored_(std::move(t)), rotary_heads_(rotary_heads) {}

  /// For messages: the file and the tensor's name in it.
  std::string const& label() const {
    return std::visit(
        [](auto const& t) -> auto const& { return t.label; }, stored_);
  }
  /// Its sizes; a vector has one.
  std::vector<index_t> const& shape() const {
    return std::visit(
        [](auto const& t) -> auto const& { return t.shape; }, stored_);
  }
  /// As a matrix: one dimension is a column of a safetensors file, a row of a GGUF file.
  index_t rows() const {
    return std::visit([](auto const& t) { return t.rows(); }, stored_);
  }
  index_t cols() const {
    return std::visit([](auto const& t) { return t.cols(); }, stored_);
  }
  /// What its numbers are stored as: "F32", "Q4_1".
  std::string_view type_name() const {
    auto const* t = in_safetensors();
    return t ? dtype_name(t->type) : std::get<gguf_tensor>(stored_).facts.name;
  }
  /// The same for with_gguf_block, which decodes both formats' numbers.
  /// errors  format_error for a safetensors type that GGUF does not have
  gguf_type_facts facts() const {
    auto const* t = in_safetensors();
    if (!t) return std::get<gguf_tensor>(stored_).facts;
    for (auto const& f : format::gguf_types)
      if (f.name == dtype_name(t->type)) return f;
    raise<format_error>(t->label, "dtype", std::string(dtype_name(t->type)), "F64, F32, F16 or BF16");
  }
  /// Heads of a llama's q or k whose rows GGUF orders in its own way (gguf_rotary_row); 0 where the order is the same.
  index_t rotary_heads() const { return rotary_heads_; }
  /// Its packed bytes, in the mapped file.
  std::span<std::byte const> bytes() const {
    return std::visit([](auto const& t) { return t.bytes; }, stored_);
  }
  /// Where it lies in a safetensors file; nothing of a GGUF file's.
  stored_tensor const* in_safetensors() const { return std::get_if<stored_tensor>(&stored_); }

  /// All its numbers, row by row.
  std::vector<float> values() const {
    std::vector<float> all(static_cast<std::size_t>(rows() * cols()));
    read(0, row_major(all.data(), rows(), cols()));
    return all;
  }
  /// Rows [first, first + to.rows) as floating-point numbers.
  /// errors  read_matrix's and read_rows'
  template <MutableViewIn<host_space> V>
  void read(index_t first, V to) const {
    if (auto const* t = std::get_if<gguf_tensor>(&stored_)) return read_rows(*t, first, to, rotary_heads_);
    auto part = std::get<stored_tensor>(stored_);
    require_shape(to, to.rows, part.cols(), part.label, "destination");
    if (first < 0 || first > part.rows() - to.rows)
      raise<value_error>("base_weight::read(" + part.label + ")", "rows",
                         std::to_string(first) + " to " + std::to_string(first + to.rows),
                         "within its " + std::to_string(part.rows()));
    auto const row = part.rows() == 0 ? 0 : part.bytes.size() / static_cast<std::size_t>(part.rows());
    part.bytes = part.bytes.subspan(static_cast<std::size_t>(first) * row, static_cast<std::size_t>(to.rows) * row);
    if (part.shape.empty()) part.shape = {1};
    part.shape[0] = to.rows;
    read_matrix(part, to);
  }
};

/// A base model on disk under Hugging Face's names: safetensors (safetensors_model), or a GGUF file of a decoder
/// (llama, qwen2, qwen3), whose tensors get the names that they had there. Everything stays mapped, read-only.
/// errors  file_error; safetensors_model's and gguf_file's; value_error for a GGUF file of another architecture
class base_model {
  std::variant<safetensors_model, gguf_file> files_;
  std::map<std::string, std::string, std::less<>> gguf_names_;  // by Hugging Face's
  index_t heads_ = 0, kv_heads_ = 0;

  static std::variant<safetensors_model, gguf_file> open(std::filesystem::path const& path) {
    if (is_gguf(path)) return gguf_file(path);
    return safetensors_model(path);
  }

 public:
  explicit base_model(std::filesystem::path const& path) : files_(open(path)) {
    auto const* file = in_gguf();
    if (!file) return;
    auto const architecture = file->text("general.architecture");
    for (auto const& t : file->tensors())
      if (auto name = gguf_parameter_name(architecture, t.name); !name.empty()) gguf_names_[name] = t.name;
    if (architecture != "llama") return;
    heads_ = file->number<index_t>("llama.attention.head_count");
    kv_heads_ = file->number_or("llama.attention.head_count_kv", heads_);
    if (heads_ < 1 || kv_heads_ < 1)
      raise<format_error>(path.string(), "llama.attention.head_count", std::to_string(std::min(heads_, kv_heads_)),
                          "1 or more");
  }
  /// What it is stored in; null if it is the other.
  safetensors_model const* in_safetensors() const { return std::get_if<safetensors_model>(&files_); }
  /// The same.
  gguf_file const* in_gguf() const { return std::get_if<gguf_file>(&files_); }
  std::filesystem::path const& path() const {
    return std::visit(
        [](auto const& f) -> auto const& { return f.path(); }, files_);
  }

  /// Names of all its tensors, sorted.
  std::vector<std::string> names() const {
    if (auto const* model = in_safetensors()) return model->names();
    std::vector<std::string> all;
    for (auto const& [name, tensor] : gguf_names_) all.push_back(name);
    return all;
  }
  /// Whether it has a tensor of that name.
  bool contains(std::string_view name) const {
    auto const* model = in_safetensors();
    return model ? model->contains(name) : gguf_names_.find(name) != gguf_names_.end();
  }
  /// The tensor of that name.
  /// errors  format_error if there is none
  base_weight operator[](std::string_view name) const {
    if (auto const* model = in_safetensors()) return base_weight((*model)[name]);
    auto const found = gguf_names_.find(name);
    auto const& file = *in_gguf();
    if (found == gguf_names_.end()) return base_weight(file[name]);  // which says that there is none
    bool const q = name.ends_with(".q_proj.weight"), k = name.ends_with(".k_proj.weight");
    if (heads_ > 0 && (name.ends_with(".q_proj.bias") || name.ends_with(".k_proj.bias")))
      raise<format_error>(path().string(), "'" + found->second + "'", "a bias in GGUF's order of rows",
                          "a llama without it");
    return base_weight(file[found->second], q ? heads_ : k ? kv_heads_ : 0);
  }
  /// The tensor's pages may leave memory.
  void forget(std::string_view name) const {
    if (auto const* model = in_safetensors()) return model->owner(name).forget((*model)[name]);
    auto const found = gguf_names_.find(name);
    if (found != gguf_names_.end()) in_gguf()->forget((*in_gguf())[found->second]);
  }
};

}  // namespace loraga

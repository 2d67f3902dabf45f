#pragma once
#include <cstring>
#include <loraga/io/dtype.hpp>
#include <loraga/io/file.hpp>
#include <loraga/io/json.hpp>
#include <map>
#include <memory>
#include <tuple>

namespace loraga {

/// What a safetensors file says of one tensor; its bytes are file[begin, end).
struct tensor_info {
  std::string name;
  dtype type = dtype::F32;  ///< of its elements
  std::vector<index_t> shape;
  std::size_t begin = 0, end = 0;  ///< of its bytes in the file
};

/// What a safetensors file says before its data.
struct safetensors_header {
  std::vector<tensor_info> tensors;             ///< as they lie in the file
  std::map<std::string, std::string> metadata;  ///< __metadata__
};

/// How strictly a file is read.
struct safetensors_options {
  bool tolerate_trailing_bytes = false;  ///< after the last tensor
};

namespace format {
inline constexpr std::uint64_t most_header_bytes = 100'000'000;

inline tensor_info parse_tensor(std::string const& name, nlohmann::json const& entry, std::size_t data_start,
                                std::size_t data_size, std::string const& where) {
  auto const bad = [&](char const* what, std::string const& found, std::string_view expected) {
    raise<format_error>(where, what + (" of '" + name + "'"), found, expected);
  };
  auto const part = [&](char const* key) -> nlohmann::json const& {
    auto const p = entry.is_object() ? entry.find(key) : entry.end();
    if (p == entry.end()) bad(key, "missing", "a dtype, a shape and data_offsets");
    return *p;
  };
  auto const numbers = [&](char const* key) {
    auto const& list = part(key);
    bool ok = list.is_array();
    for (auto const& x : list) ok = ok && x.is_number_unsigned() && x.get<std::uint64_t>() < (std::uint64_t{1} << 62);
    if (!ok) bad(key, list.dump().substr(0, 80), "a list of whole numbers from 0 to 2^62");
    return list.get<std::vector<index_t>>();
  };
  tensor_info t{name, dtype::F32, numbers("shape"), 0, 0};
  auto const& type = part("dtype");
  if (!type.is_string()) bad("dtype", type.dump().substr(0, 80), "a string");
  t.type = parse_dtype(type.get_ref<std::string const&>(), where + ": '" + name + "'");
  auto const offsets = numbers("data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || static_cast<std::size_t>(offsets[1]) > data_size)
    bad("data_offsets", part("data_offsets").dump().substr(0, 80),
        "[begin, end] within the " + std::to_string(data_size) + " bytes of data");
  std::uint64_t bits = static_cast<std::uint64_t>(dtype_bits(t.type));
  for (index_t const d : t.shape) {
    auto const size = static_cast<std::uint64_t>(d);
    if (size != 0 && bits > ~std::uint64_t{0} / size) bad("shape", shape_text(t.shape), "a size below 2^64 bits");
    bits *= size;
  }
  auto const size = static_cast<std::uint64_t>(offsets[1] - offsets[0]);
  if (bits % 8 != 0 || bits / 8 != size)
    bad("shape", shape_text(t.shape) + " of " + std::string(dtype_name(t.type)),
        "one that fills its " + std::to_string(size) + " bytes");
  t.begin = data_start + static_cast<std::size_t>(offsets[0]);
  t.end = data_start + static_cast<std::size_t>(offsets[1]);
  return t;
}
}  // namespace format

/// Reads and checks the header of a whole file: 8 bytes N, N bytes of JSON, then tensors that fill the rest without
/// holes or overlaps.
/// errors  format_error naming `where` and the tensor
/// source  github.com/huggingface/safetensors (format); rejects all that it rejects, and duplicate keys
inline safetensors_header parse_safetensors(std::span<std::byte const> file, std::string const& where,
                                            safetensors_options options = {}) {
  if (file.size() < 8) raise<format_error>(where, "file", std::to_string(file.size()) + " bytes", "at least 8");
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<std::uint64_t>(file[static_cast<std::size_t>(i)]);
  if (length > format::most_header_bytes)
    raise<format_error>(where, "header length", std::to_string(length), "at most 100000000");
  if (length > file.size() - 8)
    raise<format_error>(where, "header length", std::to_string(length),
                        "at most the file's " + std::to_string(file.size() - 8) + " further bytes");
  std::size_t const start = 8 + static_cast<std::size_t>(length), size = file.size() - start;
  auto const json =
      parse_json({reinterpret_cast<char const*>(file.data()) + 8, static_cast<std::size_t>(length)}, where, 3);
  if (!json.is_object()) raise<format_error>(where, "header", "no JSON object", "an object of tensors");

  safetensors_header header;
  for (auto const& [name, entry] : json.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(format::parse_tensor(name, entry, start, size, where));
      continue;
    }
    if (!entry.is_object() && !entry.is_null()) raise<format_error>(where, name, "no object", "strings by name");
    for (auto const& [key, value] : entry.items()) {
      if (!value.is_string()) raise<format_error>(where, name + "." + key, value.dump().substr(0, 80), "a string");
      header.metadata[key] = value.get<std::string>();
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](auto const& a, auto const& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::size_t at = start;
  for (auto const& t : header.tensors) {
    if (t.begin != at)
      raise<format_error>(where, "'" + t.name + "'", "at byte " + std::to_string(t.begin - start) + " of the data",
                          "at " + std::to_string(at - start) + ", where the tensor before ends");
    at = t.end;
  }
  if (at != file.size() && !options.tolerate_trailing_bytes)
    raise<format_error>(where, "end", std::to_string(file.size() - at) + " bytes after the last tensor", "none");
  return header;
}

/// A tensor in somebody's memory (a mapped file's): what it is, and its bytes, which need not be aligned.
struct stored_tensor {
  std::string label;        ///< for messages
  dtype type = dtype::F32;  ///< of its elements
  std::vector<index_t> shape;
  std::span<std::byte const> bytes;  ///< row by row

  /// Its rows and columns as a matrix. One dimension is a column; more than two are joined after the first, as a
  /// convolution's out x in*k*k.
  index_t rows() const { return shape.empty() ? 1 : shape[0]; }
  index_t cols() const {
    index_t n = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) n *= shape[i];
    return n;
  }

  /// The memory itself as a row-major matrix; nothing is read before it is looked at.
  /// errors  format_error if it holds another type, or lies at an address T cannot be read from (read_matrix copies)
  template <class T>
  matrix_view<T const, host_space> view() const {
    if (type != dtype_of<T>)
      raise<format_error>(label, "dtype", std::string(dtype_name(type)), dtype_name(dtype_of<T>));
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0)
      raise<format_error>(label, "position", "not aligned", "a multiple of the element's size; read_matrix copies");
    return row_major(reinterpret_cast<T const*>(bytes.data()), rows(), cols());
  }
};

/// Whether two tensors are the same to the last bit.
inline bool same_tensor(stored_tensor const& a, stored_tensor const& b) {
  return a.type == b.type && a.shape == b.shape &&
         std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
}

/// Copies a tensor's elements, row by row, into `to`, converting between floating-point types.
/// errors  format_error if it is no floating-point tensor; shape_error if `to` has another shape
template <MutableViewIn<host_space> V>
void read_matrix(stored_tensor const& from, V to) {
  require_shape(to, from.rows(), from.cols(), from.label, "destination");
  with_float_type(from.type, from.label, "dtype", [&]<class T>(T) {
    using D = typename V::value_type;
    auto const* p = from.bytes.data();
    for (index_t i = 0; i < to.rows; ++i)
      for (index_t j = 0; j < to.cols; ++j, p += sizeof(T)) {
        if constexpr (std::is_same_v<T, D>) to(i, j) = load_element<T>(p);
        else to(i, j) = static_cast<D>(value_as<compute_t<D>>(load_element<T>(p)));
      }
  });
}

/// A safetensors file, mapped. Opening reads the header and no tensor.
/// errors  file_error, format_error
class safetensors_file {
  std::unique_ptr<mapped_file> file_;  // its address stays when this object moves
  safetensors_header header_;
  std::map<std::string, std::size_t, std::less<>> positions_;

 public:
  explicit safetensors_file(std::filesystem::path const& path, safetensors_options options = {})
      : file_(std::make_unique<mapped_file>(path)), header_(parse_safetensors(file_->bytes(), path.string(), options)) {
    for (std::size_t i = 0; i < header_.tensors.size(); ++i) positions_[header_.tensors[i].name] = i;
  }
  std::filesystem::path const& path() const { return file_->path(); }
  /// Its tensors, as they lie in the file.
  std::vector<tensor_info> const& tensors() const { return header_.tensors; }
  /// Its __metadata__.
  std::map<std::string, std::string> const& metadata() const { return header_.metadata; }
  /// Bytes of the whole file.
  std::size_t file_size() const { return file_->bytes().size(); }
  /// Whether it has a tensor of that name.
  bool contains(std::string_view name) const { return positions_.find(name) != positions_.end(); }

  /// The tensor of that name.
  /// errors  format_error if there is none
  stored_tensor operator[](std::string_view name) const {
    auto const p = positions_.find(name);
    if (p == positions_.end())
      raise<format_error>(path().string(), "'" + std::string(name) + "'", "missing",
                          "one of its " + std::to_string(positions_.size()) + " tensors");
    auto const& t = header_.tensors[p->second];
    return {path().string() + ": '" + t.name + "'", t.type, t.shape, file_->bytes().subspan(t.begin, t.end - t.begin)};
  }
  /// The tensor's pages may leave memory.
  void forget(stored_tensor const& t) const { file_->forget(t.bytes); }
};

}  // namespace loraga

#pragma once
#include <algorithm>
#include <cstring>
#include <loraga/io/file.hpp>
#include <loraga/io/gguf_header.hpp>
#include <loraga/io/gguf_names.hpp>
#include <memory>

namespace loraga {

/// A GGUF tensor in a mapped file: what it is, and its packed bytes.
struct gguf_tensor {
  std::string label;                 ///< for messages
  gguf_type_facts facts;             ///< its type's
  std::vector<index_t> shape;        ///< outermost first
  std::span<std::byte const> bytes;  ///< row by row

  /// Its rows and columns as a matrix. One dimension is one row, as GGUF stores it; more than two are joined before the
  /// last.
  index_t rows() const {
    index_t n = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
  index_t cols() const { return shape.back(); }
};

namespace format {
/// Row i of `to` becomes the tensor's row row_of(i).
template <class V, class F>
void read_gguf_rows(gguf_tensor const& from, V to, F row_of) {
  using D = typename V::value_type;
  with_gguf_block(from.facts, from.label, [&]<class Block>(Block) {
    index_t const blocks = to.cols / Block::elements;
    bool const direct = std::is_same_v<D, float> && to.col_stride == 1;
    std::vector<float> row(direct ? 0 : static_cast<std::size_t>(to.cols));
    for (index_t i = 0; i < to.rows; ++i) {
      auto const* p = from.bytes.data() + row_of(i) * blocks * Block::bytes;
      float* y = row.data();
      if constexpr (std::is_same_v<D, float>)
        if (direct) y = &to(i, 0);
      for (index_t b = 0; b < blocks; ++b, p += Block::bytes) Block::decode(p, y + b * Block::elements);
      if (direct) continue;
      for (index_t j = 0; j < to.cols; ++j) to(i, j) = static_cast<D>(y[j]);
    }
  });
}
}  // namespace format

/// Unpacks rows [first, first + to.rows) of a tensor into `to`. The floats are those of the package gguf, to the last
/// bit, converted once where `to` holds another type. With `rotary_heads`, rows come in Hugging Face's order, where a
/// llama's q or k of that many heads lies in GGUF's (format::gguf_rotary_row).
/// errors  format_error for a type that is not decoded (with_gguf_block); shape_error if `to` has other columns;
///         value_error for rows that the tensor does not have, or heads that do not divide them
/// cost    one pass over the packed bytes; one row of floats where `to` is no float matrix with rows that lie together
template <MutableViewIn<host_space> V>
void read_rows(gguf_tensor const& from, index_t first, V to, index_t rotary_heads = 0) {
  require_shape(to, to.rows, from.cols(), from.label, "destination");
  auto const where = "read_rows(" + from.label + ")";
  if (first < 0 || first > from.rows() - to.rows)
    raise<value_error>(where, "rows", std::to_string(first) + " to " + std::to_string(first + to.rows),
                       "within its " + std::to_string(from.rows()));
  if (rotary_heads == 0) return format::read_gguf_rows(from, to, [&](index_t i) { return first + i; });
  if (rotary_heads < 0 || from.rows() % (2 * rotary_heads) != 0)
    raise<value_error>(where, "rotary_heads",
                       std::to_string(rotary_heads) + " for " + std::to_string(from.rows()) + " rows",
                       "heads of one even size");
  index_t const size = from.rows() / rotary_heads;
  format::read_gguf_rows(from, to, [&](index_t i) { return format::gguf_rotary_row(first + i, size); });
}

/// Whether a file is GGUF: by its name, or else by its first letters (some stores give files no extension).
inline bool is_gguf(std::filesystem::path const& path) {
  std::error_code unknown;
  if (path.extension() == ".gguf") return true;
  if (!std::filesystem::is_regular_file(path, unknown)) return false;
  mapped_file const file(path);
  return file.bytes().size() >= 4 && std::memcmp(file.bytes().data(), "GGUF", 4) == 0;
}

/// A GGUF file, mapped read-only. Opening reads what stands before the data, and no tensor.
/// errors  file_error, parse_gguf's
class gguf_file {
  std::unique_ptr<mapped_file> file_;  // its address stays when this object moves
  gguf_header header_;
  std::map<std::string, std::size_t, std::less<>> positions_;

  gguf_value const& value(std::string_view key, bool list, std::string_view expected, auto fits) const {
    auto const p = header_.metadata.find(key);
    auto const refuse = [&](std::string const& found) {
      raise<format_error>(path().string(), std::string(key), found, expected);
    };
    if (p == header_.metadata.end()) refuse("missing");
    if (p->second.is_list != list || !fits(p->second.what)) refuse("of another type");
    return p->second;
  }
  static bool is_text(gguf_value::kind k) { return k == gguf_value::text; }
  template <class T>
  T number_at(gguf_value::kind k, std::size_t at, std::string_view key) const {
    auto const cast = [&]<class F>(F) {
      F const x = load_element<F>(file_->bytes().data() + at);
      bool fits = true;
      if constexpr (std::is_integral_v<T> && std::is_integral_v<F>) fits = std::in_range<T>(x);
      else if constexpr (std::is_integral_v<T>)
        fits = x >= -9e15 && x <= 9e15 && static_cast<F>(static_cast<T>(x)) == x;
      if (!fits) raise<format_error>(path().string(), std::string(key), std::to_string(x), "a whole number in range");
      return static_cast<T>(x);
    };
    switch (k) {
      case gguf_value::u8:
        return cast(std::uint8_t{});
      case gguf_value::i8:
        return cast(std::int8_t{});
      case gguf_value::u16:
        return cast(std::uint16_t{});
      case gguf_value::i16:
        return cast(std::int16_t{});
      case gguf_value::u32:
        return cast(std::uint32_t{});
      case gguf_value::i32:
        return cast(std::int32_t{});
      case gguf_value::f32:
        return cast(float{});
      case gguf_value::u64:
        return cast(std::uint64_t{});
      case gguf_value::i64:
        return cast(std::int64_t{});
      default:
        return cast(double{});
    }
  }
  static bool is_number(gguf_value::kind k) { return k != gguf_value::text && k != gguf_value::boolean; }

 public:
  explicit gguf_file(std::filesystem::path const& path)
      : file_(std::make_unique<mapped_file>(path)), header_(parse_gguf(file_->bytes(), path.string())) {
    for (std::size_t i = 0; i < header_.tensors.size(); ++i) positions_[header_.tensors[i].name] = i;
  }
  std::filesystem::path const& path() const { return file_->path(); }
  /// Its tensors, as they lie in the file.
  std::vector<gguf_tensor_info> const& tensors() const { return header_.tensors; }
  /// Bytes of the whole file.
  std::size_t file_size() const { return file_->bytes().size(); }
  /// Whether it has a tensor of that name.
  bool contains(std::string_view name) const { return positions_.find(name) != positions_.end(); }
  /// The tensor of that name.
  /// errors  format_error if there is none
  gguf_tensor operator[](std::string_view name) const {
    auto const p = positions_.find(name);
    if (p == positions_.end())
      raise<format_error>(path().string(), format::printable(name), "missing",
                          "one of its " + std::to_string(positions_.size()) + " tensors");
    auto const& t = header_.tensors[p->second];
    return {path().string() + ": " + format::printable(t.name), t.facts, t.shape,
            file_->bytes().subspan(t.begin, t.end - t.begin)};
  }
  /// The tensor's pages may leave memory.
  void forget(gguf_tensor const& t) const { file_->forget(t.bytes); }

  /// Its metadata, by key; the functions below read them.
  std::map<std::string, gguf_value, std::less<>> const& metadata() const { return header_.metadata; }
  /// Whether the metadata have this key.
  bool has(std::string_view key) const { return header_.metadata.find(key) != header_.metadata.end(); }
  /// A text of the metadata.
  /// errors  format_error naming the file and the key if it is missing or of another type; so do those below
  std::string text(std::string_view key) const {
    auto const& v = value(key, false, "a text", is_text);
    return std::string(format::gguf_cursor(file_->bytes(), path().string(), v.begin).text("a text"));
  }
  /// A list of texts.
  std::vector<std::string> texts(std::string_view key) const {
    auto const& v = value(key, true, "a list of texts", is_text);
    auto const where = path().string();
    format::gguf_cursor in(file_->bytes(), where, v.begin);
    std::vector<std::string> all;
    for (std::size_t i = 0; i < v.count; ++i) all.emplace_back(in.text("a text"));
    return all;
  }
  /// A number, whatever type it is stored in.
  /// errors  format_error too where it does not fit T
  template <class T>
  T number(std::string_view key) const {
    auto const& v = value(key, false, "a number", is_number);
    return number_at<T>(v.what, v.begin, key);
  }
  /// A number, or `otherwise` where there is no such key.
  template <class T>
  T number_or(std::string_view key, T otherwise) const {
    return has(key) ? number<T>(key) : otherwise;
  }
  /// A list of numbers.
  template <class T>
  std::vector<T> numbers(std::string_view key) const {
    auto const& v = value(key, true, "a list of numbers", is_number);
    std::vector<T> all;
    for (std::size_t i = 0; i < v.count; ++i)
      all.push_back(number_at<T>(v.what, v.begin + i * format::gguf_value_bytes[v.what], key));
    return all;
  }
  /// A truth value, or `otherwise` where there is no such key.
  bool flag_or(std::string_view key, bool otherwise) const {
    if (!has(key)) return otherwise;
    auto const& v = value(key, false, "true or false", [](auto k) { return k == gguf_value::boolean; });
    return file_->bytes()[v.begin] != std::byte{0};
  }
};

}  // namespace loraga

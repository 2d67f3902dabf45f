#pragma once
#include <bit>
#include <loraga/io/dtype.hpp>
#include <loraga/io/gguf_blocks.hpp>
#include <map>
#include <span>
#include <vector>

namespace loraga {

/// What a GGUF file says of one tensor; its bytes are file[begin, end).
struct gguf_tensor_info {
  std::string name;
  gguf_type_facts facts;           ///< its type's
  std::vector<index_t> shape;      ///< outermost first, as in other formats; GGUF's own ne runs the other way
  std::size_t begin = 0, end = 0;  ///< of its bytes in the file
};

/// A value of GGUF's metadata where it lies in the file: a number, a truth value, a text, or a list of one of these.
struct gguf_value {
  /// GGUF's types of values, by its numbers.
  enum kind : std::uint32_t {
    /// as they are called
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    f32,
    boolean,
    text,
    list,
    u64,
    i64,
    f64
  };
  kind what = u8;         ///< of the value, or of a list's elements
  bool is_list = false;   ///< whether it is one
  std::size_t count = 1;  ///< elements of a list
  std::size_t begin = 0;  ///< where its first byte is
};

/// What a GGUF file says before its data.
struct gguf_header {
  std::uint32_t version = 3;                                ///< of the format
  std::vector<gguf_tensor_info> tensors;                    ///< as they lie in the file
  std::map<std::string, gguf_value, std::less<>> metadata;  ///< by key
};

namespace format {
/// A stranger's text for a message: at most 80 characters, those that a terminal would act on replaced.
inline std::string printable(std::string_view s) {
  std::string safe(s.substr(0, 80));
  for (char& c : safe)
    if (c < ' ' || c > '~') c = '?';
  return "'" + safe + (s.size() > 80 ? "...'" : "'");
}

inline constexpr std::array<std::size_t, 13> gguf_value_bytes{1, 1, 2, 2, 4, 4, 4,
                                                              1, 0, 0, 8, 8, 8};  // 0: has a length

/// Reads a file from its front, and never behind its end.
class gguf_cursor {
  std::span<std::byte const> file_;
  std::string const& where_;
  std::size_t at_;

 public:
  gguf_cursor(std::span<std::byte const> file, std::string const& where, std::size_t at = 0)
      : file_(file), where_(where), at_(at) {}
  std::size_t at() const { return at_; }
  /// Skips n times `size` bytes.  errors  format_error if they are not there
  void skip(std::uint64_t n, std::size_t size, char const* what) {
    if (size != 0 && n > (file_.size() - at_) / size)
      raise<format_error>(where_, what, "cut off by the end of the file, at byte " + std::to_string(file_.size()),
                          "a whole file; fetch or convert it again");
    at_ += static_cast<std::size_t>(n) * size;
  }
  template <class T>
  T number(char const* what) {
    auto const* p = file_.data() + at_;
    skip(1, sizeof(T), what);
    return load_element<T>(p);
  }
  std::string_view text(char const* what) {
    auto const size = number<std::uint64_t>(what);
    auto const* p = reinterpret_cast<char const*>(file_.data() + at_);
    skip(size, 1, what);
    return {p, static_cast<std::size_t>(size)};
  }
};

inline gguf_value gguf_read_value(gguf_cursor& in, std::string const& where, std::string const& label) {
  auto const kind = [&] {
    auto const k = in.number<std::uint32_t>("a value's type");
    if (k >= gguf_value_bytes.size()) raise<format_error>(where, label, "of type " + std::to_string(k), "0 to 12");
    return static_cast<gguf_value::kind>(k);
  };
  gguf_value v;
  v.what = kind();
  if (v.what == gguf_value::list) {
    v.is_list = true;
    v.what = kind();
    if (v.what == gguf_value::list) raise<format_error>(where, label, "a list of lists", "one list");
    v.count = static_cast<std::size_t>(in.number<std::uint64_t>("a list's length"));
  }
  v.begin = in.at();
  if (v.what != gguf_value::text) in.skip(v.count, gguf_value_bytes[v.what], "a value");
  else
    for (std::size_t i = 0; i < v.count; ++i) in.text("a text");
  return v;
}

inline gguf_type_facts gguf_facts(std::uint32_t type, std::string const& where, std::string const& label) {
  for (auto const& t : gguf_types)
    if (static_cast<std::uint32_t>(t.type) == type) return t;
  raise<format_error>(where, label, "of type " + std::to_string(type),
                      "a type of ggml; the file is newer than this reader");
}

/// A tensor's line in the table. Its place is within the data; `data` says where these begin, later.
inline gguf_tensor_info gguf_read_tensor(gguf_cursor& in, std::size_t alignment, std::string const& where) {
  gguf_tensor_info t;
  t.name = in.text("a tensor's name");
  auto const label = "tensor " + printable(t.name);
  auto const dimensions = in.number<std::uint32_t>("a tensor's dimensions");
  if (dimensions < 1 || dimensions > 4)
    raise<format_error>(where, label, "of " + std::to_string(dimensions) + " dimensions", "1 to 4");
  t.shape.resize(dimensions);
  std::uint64_t elements = 1;
  for (auto d = t.shape.rbegin(); d != t.shape.rend(); ++d) {
    auto const size = in.number<std::uint64_t>("a tensor's shape");
    if (size >= std::uint64_t{1} << 59 || (size != 0 && elements > ((std::uint64_t{1} << 59) - 1) / size))
      raise<format_error>(where, label, "a size of " + std::to_string(size), "fewer than 2^59 elements");
    elements *= size;
    *d = static_cast<index_t>(size);
  }
  t.facts = gguf_facts(in.number<std::uint32_t>("a tensor's type"), where, label);
  if (t.shape.back() % t.facts.elements != 0)
    raise<format_error>(
        where, label, "rows of " + std::to_string(t.shape.back()),
        "a multiple of " + std::to_string(t.facts.elements) + ", the block of " + std::string(t.facts.name));
  auto const offset = in.number<std::uint64_t>("a tensor's place");
  if (offset % alignment != 0 || offset >= std::uint64_t{1} << 62)
    raise<format_error>(where, label, "at byte " + std::to_string(offset) + " of the data",
                        "a multiple of " + std::to_string(alignment) + ", the file's general.alignment");
  t.begin = static_cast<std::size_t>(offset);
  t.end = t.begin + static_cast<std::size_t>(elements) / static_cast<std::size_t>(t.facts.elements) * t.facts.bytes;
  return t;
}

/// Moves the tensors to where the data begin; they lie within the file, and apart.
inline void gguf_place_tensors(std::vector<gguf_tensor_info>& tensors, std::size_t data, std::size_t size,
                               std::string const& where) {
  std::sort(tensors.begin(), tensors.end(), [](auto const& a, auto const& b) { return a.begin < b.begin; });
  std::size_t before = data;
  for (auto& t : tensors) {
    t.begin += data, t.end += data;
    auto const label = "tensor " + printable(t.name);
    if (t.end > size)
      raise<format_error>(where, label,
                          "ends at byte " + std::to_string(t.end) + " of a file of " + std::to_string(size),
                          "within it; the file is cut off: fetch or convert it again");
    if (t.begin < before) raise<format_error>(where, label, "overlaps the tensor before it", "a place of its own");
    before = t.end;
  }
}
}  // namespace format

/// Reads and checks all that stands before a GGUF file's data.
/// errors  format_error naming `where` and the key or tensor: for another format or version (2 and 3 are read), what is
///         cut off, keys or tensors of the same name, types that ggml does not have, and tensors that overlap or lie
///         outside the file
/// source  github.com/ggml-org/ggml, docs/gguf.md
inline gguf_header parse_gguf(std::span<std::byte const> file, std::string const& where) {
  static_assert(std::endian::native == std::endian::little, "GGUF is read on little-endian machines");
  format::gguf_cursor in(file, where);
  if (file.size() < 4 || std::memcmp(file.data(), "GGUF", 4) != 0)
    raise<format_error>(where, "file", "no GGUF: it begins otherwise", "the letters GGUF");
  in.skip(4, 1, "the file");
  gguf_header h;
  h.version = in.number<std::uint32_t>("the version");
  if (h.version != 2 && h.version != 3)
    raise<format_error>(
        where, "version", std::to_string(h.version),
        "2 or 3; " + std::string(h.version == 0x03000000u ? "this is a big-endian file" : "convert the model again"));
  auto const tensors = in.number<std::uint64_t>("the number of tensors"),
             entries = in.number<std::uint64_t>("the number of keys");
  for (std::uint64_t i = 0; i < entries; ++i) {
    std::string key(in.text("a key"));
    auto const label = format::printable(key);
    auto const value = format::gguf_read_value(in, where, label);
    if (!h.metadata.emplace(std::move(key), value).second)
      raise<format_error>(where, label, "there a second time", "each key once");
  }
  std::size_t alignment = 32;
  if (auto const p = h.metadata.find("general.alignment"); p != h.metadata.end()) {
    bool const fits = p->second.what == gguf_value::u32 && !p->second.is_list;
    alignment = fits ? load_element<std::uint32_t>(file.data() + p->second.begin) : 0;
    if (!std::has_single_bit(alignment))
      raise<format_error>(where, "general.alignment", fits ? std::to_string(alignment) : "no 32-bit number",
                          "a power of two");
  }
  std::map<std::string, int> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    h.tensors.push_back(format::gguf_read_tensor(in, alignment, where));
    auto const& name = h.tensors.back().name;
    if (names[name]++ != 0)
      raise<format_error>(where, "tensor " + format::printable(name), "there a second time", "each once");
  }
  format::gguf_place_tensors(h.tensors, (in.at() + alignment - 1) / alignment * alignment, file.size(), where);
  return h;
}

}  // namespace loraga

#pragma once
#include <loraga/io/safetensors.hpp>

namespace loraga {

/// A tensor that is going to be written.
struct tensor_spec {
  std::string name;
  dtype type = dtype::F32;  ///< of its elements
  std::vector<index_t> shape;
};

namespace format {
/// Length and JSON, padded so that data start at a multiple of 8; `specs` in the order of the data.
inline std::string safetensors_head(std::vector<tensor_spec> const& specs, std::vector<std::size_t> const& ends,
                                    std::map<std::string, std::string> const& metadata) {
  auto const quoted = [](std::string const& s) { return nlohmann::json(s).dump(); };
  std::string json = "{";
  std::string_view comma;
  if (!metadata.empty()) {
    json.append("\"__metadata__\":").append(nlohmann::json(metadata).dump());
    comma = ",";
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    json.append(comma).append(quoted(specs[i].name)).append(":{\"dtype\":\"").append(dtype_name(specs[i].type));
    json.append("\",\"shape\":[");
    std::string_view before;
    for (index_t const d : specs[i].shape) {
      json.append(before).append(std::to_string(d));
      before = ",";
    }
    json.append("],\"data_offsets\":[").append(std::to_string(i ? ends[i - 1] : 0)).append(",");
    json.append(std::to_string(ends[i])).append("]}");
    comma = ",";
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  std::string head;
  for (int i = 0; i < 8; ++i) head += static_cast<char>(json.size() >> 8 * i & 0xff);
  return head + json;
}
}  // namespace format

/// Writes a safetensors file tensor by tensor, in any order. The file takes its name when all are there (`commit`). Its
/// bytes are those of the Python package safetensors for the same content, but that metadata entries are sorted, where
/// the package orders them at random.
/// errors  file_error; value_error for two tensors of one name, a name "__metadata__", text that is not UTF-8, or
///         sizes out of range
class safetensors_writer {
  struct slot {
    tensor_spec spec;
    std::size_t begin = 0, end = 0;
    bool written = false;
  };
  std::map<std::string, slot, std::less<>> slots_;
  output_file file_;

 public:
  safetensors_writer(std::filesystem::path const& path, std::vector<tensor_spec> specs,
                     std::map<std::string, std::string> const& metadata = {}, overwrite may_replace = overwrite::no)
      : file_(path, may_replace) {
    std::string const where = "safetensors_writer(" + path.string() + ")";
    std::sort(specs.begin(), specs.end(),
              [](auto const& a, auto const& b) { return a.type != b.type ? a.type > b.type : a.name < b.name; });
    std::vector<std::size_t> ends;
    std::size_t at = 0;
    for (auto const& s : specs) {
      if (s.name == "__metadata__") raise<value_error>(where, "name", s.name, "one that is not reserved");
      index_t const n = element_count(s.shape, where);
      index_t const bits = n * dtype_bits(s.type);
      require_value(bits % 8 == 0, static_cast<double>(bits), where + " '" + s.name + "'", "bits", "whole bytes");
      std::size_t const begin = at;
      at += static_cast<std::size_t>(bits / 8);
      ends.push_back(at);
      if (!slots_.emplace(s.name, slot{s, begin, at}).second)
        raise<value_error>(where, "name", "'" + s.name + "', twice", "each name once");
    }
    std::string head;
    try {
      head = format::safetensors_head(specs, ends, metadata);
    } catch (nlohmann::json::exception const& e) {
      raise<value_error>(where, "name or metadata", "no UTF-8", "UTF-8");
    }
    if (head.size() - 8 > format::most_header_bytes)
      raise<value_error>(where, "header", std::to_string(head.size() - 8) + " bytes", "at most 100000000");
    for (auto& [name, s] : slots_) {
      s.begin += head.size();
      s.end += head.size();
    }
    file_.write(0, head);
  }

  /// A tensor's elements, row-major.
  /// errors  value_error if there is no such tensor; shape_error if the size differs; state_error if it was written
  void write(std::string_view name, std::span<std::byte const> bytes) {
    auto& s = open_slot(name);
    if (bytes.size() != s.end - s.begin)
      raise<shape_error>(label(name), "size", std::to_string(bytes.size()) + " bytes", std::to_string(s.end - s.begin));
    file_.write(s.begin, bytes);
    s.written = true;
  }
  /// The same from a matrix of the tensor's type (rows x cols as stored_tensor has them).
  template <ViewIn<host_space> V>
  void write(std::string_view name, V v) {
    using T = typename V::value_type;
    auto& s = open_slot(name);
    if (s.spec.type != dtype_of<T>)
      raise<value_error>(label(name), "dtype", std::string(dtype_name(dtype_of<T>)), dtype_name(s.spec.type));
    stored_tensor const as{{}, s.spec.type, s.spec.shape, {}};
    require_shape(v, as.rows(), as.cols(), label(name), "matrix");
    if (v.rows * v.cols == 0 || (v.col_stride == 1 && (v.row_stride == v.cols || v.rows == 1)))
      return write(name, std::as_bytes(std::span(v.data, static_cast<std::size_t>(v.rows * v.cols))));
    std::vector<T> packed;
    packed.reserve(static_cast<std::size_t>(v.rows * v.cols));
    for (index_t i = 0; i < v.rows; ++i)
      for (index_t j = 0; j < v.cols; ++j) packed.push_back(v(i, j));
    write(name, std::as_bytes(std::span(packed)));
  }

  /// errors  state_error naming a tensor that was not written; file_error. What stood there stays then.
  void commit() {
    for (auto const& [name, s] : slots_)
      if (!s.written && s.end > s.begin)
        raise<state_error>(label(name), "tensor", "not written", "written before commit");
    file_.commit();
  }

 private:
  std::string label(std::string_view name) const {
    return "safetensors_writer(" + file_.path().string() + ") '" + std::string(name) + "'";
  }
  slot& open_slot(std::string_view name) {
    auto const p = slots_.find(name);
    if (p == slots_.end()) raise<value_error>(label(name), "name", "unknown", "one given at the start");
    if (p->second.written) raise<state_error>(label(name), "tensor", "written already", "each once");
    return p->second;
  }
};

}  // namespace loraga

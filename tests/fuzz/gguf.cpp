#include <loraga/io/gguf_file.hpp>

// Any bytes: a header, or a format_error. An accepted file's tensors and texts lie within it, and can all be read.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const file = std::as_bytes(std::span(data, size));
  std::string const where = "fuzz";
  try {
    auto const header = loraga::parse_gguf(file, where);
    for (auto const& [key, value] : header.metadata) {
      loraga::format::gguf_cursor in(file, where, value.begin);
      if (value.what == loraga::gguf_value::text)
        for (std::size_t i = 0; i < value.count; ++i) in.text("a text");
      else in.skip(value.count, loraga::format::gguf_value_bytes[value.what], "a number");
    }
    for (auto const& t : header.tensors) {
      loraga::gguf_tensor const tensor{t.name, t.facts, t.shape, file.subspan(t.begin, t.end - t.begin)};
      if (tensor.bytes.empty()) continue;
      try {
        std::vector<float> to(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
        loraga::read_rows(tensor, 0, loraga::row_major(to.data(), tensor.rows(), tensor.cols()));
      } catch (loraga::format_error const&) {  // a type that is not decoded
      }
    }
  } catch (loraga::format_error const&) {
  }
  return 0;
}

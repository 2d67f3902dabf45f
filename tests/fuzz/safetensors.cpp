#include <loraga/io/safetensors.hpp>

// Any bytes: a header, or a format_error. An accepted file's tensors lie within it, and can all be read.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const file = std::as_bytes(std::span(data, size));
  for (bool const trailing : {false, true}) try {
      auto const header = loraga::parse_safetensors(file, "fuzz", {.tolerate_trailing_bytes = trailing});
      for (auto const& t : header.tensors) {
        loraga::stored_tensor const tensor{t.name, t.type, t.shape, file.subspan(t.begin, t.end - t.begin)};
        if (tensor.bytes.empty() || tensor.bytes.size() > 1 << 16) continue;
        try {
          std::vector<float> to(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
          loraga::read_matrix(tensor, loraga::row_major(to.data(), tensor.rows(), tensor.cols()));
        } catch (loraga::format_error const&) {  // no floating-point type
        }
      }
    } catch (loraga::format_error const&) {
    }
  return 0;
}

// gguf_reader FILE FLOATS: what a GGUF file holds, as JSON on one line; and all its numbers, tensor by tensor in the
// order of the JSON, as float32 in FLOATS. A file that is refused: {"message": ...}.
#include <fstream>
#include <iostream>
#include <loraga/io/gguf_file.hpp>
#include <loraga/io/json.hpp>

using json = nlohmann::ordered_json;

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: gguf_reader FILE FLOATS\n";
    return 2;
  }
  loraga::gguf_file const file(argv[1]);
  std::ofstream floats(argv[2], std::ios::binary);
  json tensors = json::array(), metadata = json::object();
  for (auto const& t : file.tensors()) {
    auto const tensor = file[t.name];
    tensors.push_back({t.name, t.facts.name, t.shape});
    std::vector<float> values(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
    loraga::read_rows(tensor, 0, loraga::row_major(values.data(), tensor.rows(), tensor.cols()));
    floats.write(reinterpret_cast<char const*>(values.data()), static_cast<std::streamsize>(4 * values.size()));
  }
  for (auto const& [key, value] : file.metadata()) {
    using v = loraga::gguf_value;
    bool const whole = value.what != v::f32 && value.what != v::f64;
    if (value.what == v::text) metadata[key] = value.is_list ? json(file.texts(key)) : json(file.text(key));
    else if (value.what == v::boolean) metadata[key] = value.is_list ? json("flags") : json(file.flag_or(key, false));
    else if (value.what == v::u64)
      metadata[key] = value.is_list ? json(file.numbers<std::uint64_t>(key)) : json(file.number<std::uint64_t>(key));
    else if (whole)
      metadata[key] = value.is_list ? json(file.numbers<std::int64_t>(key)) : json(file.number<std::int64_t>(key));
    else metadata[key] = value.is_list ? json(file.numbers<double>(key)) : json(file.number<double>(key));
  }
  std::cout << json{{"tensors", tensors}, {"metadata", metadata}}.dump() << '\n';
} catch (loraga::format_error const& e) {
  std::cout << json{{"message", e.what()}}.dump(-1, ' ', true, json::error_handler_t::replace) << '\n';
}

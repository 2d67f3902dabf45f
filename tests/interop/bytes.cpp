// The light part of the comparison with other people's tools: safetensors files as bytes.
//   bytes rewrite IN OUT     reads every tensor and writes them again, in the opposite order
//   bytes floats IN OUT      floating-point tensors as float32 matrices
//   bytes open IN            opens it, lists its tensors, and prints how many seconds that took
//   bytes judge FOLDER       a line of hexadecimal per file in, a line of JSON about it out
#include <algorithm>
#include <chrono>
#include <iostream>
#include <loraga/io/safetensors_writer.hpp>

using namespace loraga;

namespace {

void rewrite(char const* in, char const* out) {
  safetensors_file const file(in);
  std::vector<tensor_spec> specs;
  for (auto const& t : file.tensors()) specs.push_back({t.name, t.type, t.shape});
  std::reverse(specs.begin(), specs.end());
  safetensors_writer writer(out, specs, file.metadata(), overwrite::yes);
  for (auto const& s : specs) writer.write(s.name, file[s.name].bytes);
  writer.commit();
}

void floats(char const* in, char const* out) {
  safetensors_file const file(in);
  std::vector<tensor_spec> specs;
  for (auto const& t : file.tensors())
    if (t.type == dtype::F64 || t.type == dtype::F32 || t.type == dtype::F16 || t.type == dtype::BF16)
      specs.push_back({t.name, dtype::F32, {file[t.name].rows(), file[t.name].cols()}});
  safetensors_writer writer(out, specs, {}, overwrite::yes);
  for (auto const& s : specs) {
    std::vector<float> values(static_cast<std::size_t>(s.shape[0] * s.shape[1]));
    auto const view = col_major(values.data(), s.shape[0], s.shape[1]);  // not the order of the file
    read_matrix(file[s.name], view);
    writer.write(s.name, view);
  }
  writer.commit();
}

void open_and_list(char const* in) {
  auto const begin = std::chrono::steady_clock::now();
  safetensors_file const file(in);
  std::size_t sizes = 0;
  for (auto const& t : file.tensors()) sizes += file[t.name].shape.size();
  std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << ' ' << sizes << '\n';
}

std::string hex(std::span<std::byte const> bytes) {
  char const* const digits = "0123456789abcdef";
  std::string s;
  for (std::byte const b : bytes) (s += digits[static_cast<int>(b) >> 4]) += digits[static_cast<int>(b) & 15];
  return s;
}

nlohmann::json judge(std::filesystem::path const& path) {
  nlohmann::json answer;
  try {
    safetensors_file const file(path);
    answer["tensors"] = nlohmann::json::object();
    for (auto const& t : file.tensors())
      answer["tensors"][t.name] = {dtype_name(t.type), t.shape, hex(file[t.name].bytes)};
  } catch (format_error const& e) {  // anything else ends the program: a file must never do that
    answer["message"] = e.what();
  }
  return answer;
}

void judge_lines(std::filesystem::path const& folder) {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::string content;
    for (std::size_t i = 0; i + 1 < line.size(); i += 2)
      content += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    auto const path = folder / "judged.safetensors";
    {
      auto* const f = std::fopen(path.c_str(), "wb");
      if (!f || std::fwrite(content.data(), 1, content.size(), f) != content.size())
        raise_file_error("judge", path, errno);
      std::fclose(f);
    }
    std::cout << judge(path).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::string const what = argc > 2 ? argv[1] : "";
  if (what == "rewrite" && argc == 4) rewrite(argv[2], argv[3]);
  else if (what == "floats" && argc == 4) floats(argv[2], argv[3]);
  else if (what == "open" && argc == 3) open_and_list(argv[2]);
  else if (what == "judge" && argc == 3) judge_lines(argv[2]);
  else {
    std::cerr << "bytes rewrite IN OUT | floats IN OUT | open IN | judge FOLDER\n";
    return 2;
  }
} catch (std::exception const& e) {
  std::cerr << e.what() << "\n";
  return 1;
}

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <loraga/core/philox.hpp>
#include <loraga/io/safetensors_writer.hpp>

// files write PATH BYTES: writes that many bytes of random tensors, made durable; prints the seconds that took, after
//   reading the file back and comparing it.
// files open PATH BYTES: makes a sparse file of that size, opens it and reads one row of its last tensor; prints the
//   seconds and by how many bytes that raised the peak of resident memory.

using namespace loraga;

namespace {

constexpr index_t rows = 4096, cols = 4096;  // 64 MiB in F32

std::string name_of(index_t i) { return "model.layers." + std::to_string(i) + ".weight"; }
std::vector<tensor_spec> tensors(index_t count) {
  std::vector<tensor_spec> specs;
  for (index_t i = 0; i < count; ++i) specs.push_back({name_of(i), dtype::F32, {rows, cols}});
  return specs;
}
double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
index_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<index_t>(usage.ru_maxrss) * 1024;
}

int write_all(std::filesystem::path const& path, index_t count) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_uniform({1, 2}, i));
  double const begin = seconds();
  safetensors_writer writer(path, tensors(count), {{"format", "pt"}}, overwrite::yes);
  for (index_t i = 0; i < count; ++i) writer.write(name_of(i), row_major(std::as_const(values).data(), rows, cols));
  writer.commit();
  double const took = seconds() - begin;
  safetensors_file const file(path);
  for (index_t i = 0; i < count; ++i) {
    auto const tensor = file[name_of(i)];
    if (std::memcmp(tensor.bytes.data(), values.data(), tensor.bytes.size()) != 0) return 1;
    file.forget(tensor);
  }
  std::printf("%.6f\n", took);
  return 0;
}

int open_large(std::filesystem::path const& path, index_t count) {
  auto specs = tensors(count);
  std::sort(specs.begin(), specs.end(), [](auto const& a, auto const& b) { return a.name < b.name; });
  std::vector<std::size_t> ends;
  for (index_t i = 1; i <= count; ++i) ends.push_back(static_cast<std::size_t>(i * rows * cols) * sizeof(float));
  std::string const head = format::safetensors_head(specs, ends, {});
  output_file file(path, overwrite::yes);
  file.write(0, head);
  std::uint64_t const size = head.size() + ends.back();
  file.write(size - 1, std::string_view("", 1));
  file.commit();
  index_t const before = peak_memory();
  double const begin = seconds();
  safetensors_file const opened(path);
  auto const last = opened[opened.tensors().back().name].view<float>();
  double sum = 0;
  for (index_t j = 0; j < cols; ++j) sum += static_cast<double>(last(0, j));
  double const took = seconds() - begin;
  std::printf("%.6f %lld\n", took, static_cast<long long>(peak_memory() - before));
  return sum == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  index_t const count = std::max<index_t>(1, std::atoll(argv[3]) / (rows * cols * static_cast<index_t>(sizeof(float))));
  return std::string_view(argv[1]) == "write" ? write_all(argv[2], count) : open_large(argv[2], count);
}

#pragma once
#include <cstdint>
#include <fstream>
#include <loraga/core/view.hpp>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

using loraga::index_t;

/// Memory on a cache line's bound, as the library and torch allocate theirs.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t line{64};
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, line); }
  bool operator==(aligned_allocator const&) const = default;
};

/// What matrix_file.py reads and writes: rows, cols as int32, then float32 column-major.
struct host_matrix {
  index_t rows = 0, cols = 0;
  std::vector<float, aligned_allocator<float>> values;
  loraga::matrix_view<float const, loraga::host_space> view() const {
    return loraga::col_major(values.data(), rows, cols);
  }
};

inline host_matrix read_matrix(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  std::int32_t shape[2] = {};
  file.read(reinterpret_cast<char*>(shape), sizeof shape);
  host_matrix m{shape[0], shape[1], {}};
  if (!file || m.rows < 1 || m.cols < 1) throw std::runtime_error(path + ": not a matrix file");
  m.values.resize(static_cast<std::size_t>(m.rows * m.cols));
  file.read(reinterpret_cast<char*>(m.values.data()), static_cast<std::streamsize>(m.values.size() * sizeof(float)));
  if (!file) throw std::runtime_error(path + ": truncated");
  return m;
}

/// Appends one matrix to an open file.
inline void write_matrix(std::ofstream& file, index_t rows, index_t cols, std::vector<float> const& column_major) {
  std::int32_t const shape[2] = {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(cols)};
  file.write(reinterpret_cast<char const*>(shape), sizeof shape);
  file.write(reinterpret_cast<char const*>(column_major.data()),
             static_cast<std::streamsize>(column_major.size() * sizeof(float)));
}

}  // namespace bench

#pragma once
#include <loraga/io/adapter_record.hpp>

#include "../support/host.hpp"

namespace test {

inline host host_of(loraga::record_matrix const& m) {
  host h(m.rows, m.cols);
  for (loraga::index_t i = 0; i < m.rows; ++i)
    for (loraga::index_t j = 0; j < m.cols; ++j) h(i, j) = static_cast<double>(m.view()(i, j));
  return h;
}
/// What a record does to W.
inline host change_of(loraga::adapter_record const& r) {
  auto c = host_of(r.b) * host_of(r.a);
  if (r.anchored()) c = c - host_of(r.start_b) * host_of(r.start_a);
  return r.scale * c;
}
inline loraga::adapter_record random_record(std::string module, loraga::index_t out, loraga::index_t in,
                                            loraga::index_t rank, loraga::index_t start_rank, std::uint64_t seed) {
  loraga::adapter_record r{std::move(module), 1.5, {rank, in}, {out, rank}, {}, {}};
  if (start_rank > 0) {
    r.start_a = {start_rank, in};
    r.start_b = {out, start_rank};
  }
  std::uint64_t stream = 0;
  for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b}) {
    ++stream;
    for (std::size_t i = 0; i < m->values.size(); ++i)
      m->values[i] = static_cast<float>(loraga::random_uniform({seed, stream}, i) - 0.5);
  }
  return r;
}

}  // namespace test

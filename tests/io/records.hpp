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
/// What a record without a magnitude adds to W.
inline host change_of(loraga::adapter_record const& r) {
  auto b = host_of(r.b);
  for (loraga::index_t j = 0; j < r.e.rows; ++j)
    for (loraga::index_t i = 0; i < b.rows; ++i) b(i, j) *= static_cast<double>(r.e.view()(j, 0));
  auto c = b * host_of(r.a);
  if (r.anchored()) c = c - host_of(r.start_b) * host_of(r.start_a);
  return r.scale * c;
}
/// W with a record in it.
inline host merged(host const& w, loraga::adapter_record const& r) {
  auto sum = w + change_of(r);
  for (loraga::index_t j = 0; j < r.magnitude.rows; ++j) {
    double squares = 0;
    for (loraga::index_t i = 0; i < sum.cols; ++i) squares += sum(j, i) * sum(j, i);
    double const ratio = static_cast<double>(r.magnitude.view()(j, 0)) / std::sqrt(squares);
    for (loraga::index_t i = 0; i < sum.cols; ++i) sum(j, i) *= ratio;
  }
  return sum;
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

/// The same as a DoRA, with rows 0.5 to 1.5 long, or with AdaLoRA's E.
inline loraga::adapter_record with_magnitude(loraga::adapter_record r) {
  r.magnitude = {r.b.rows, 1};
  for (std::size_t i = 0; i < r.magnitude.values.size(); ++i)
    r.magnitude.values[i] = static_cast<float>(0.5 + loraga::random_uniform({3, 9}, i));
  return r;
}
inline loraga::adapter_record with_e(loraga::adapter_record r) {
  r.e = {r.rank(), 1};
  for (std::size_t i = 0; i < r.e.values.size(); ++i) r.e.values[i] = 0.75f - static_cast<float>(i);
  return r;
}

}  // namespace test

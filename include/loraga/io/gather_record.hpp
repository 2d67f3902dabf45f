#pragma once
#include <loraga/distributed/shard.hpp>
#include <loraga/io/adapter_record.hpp>

namespace loraga {

namespace detail {

/// What a rank tells of its part of a record.
class record_part {
  std::vector<index_t> facts_;  // first, count, check sum of what is not cut
  std::vector<float> values_;   // of what is cut: a factor, then its start

 public:
  record_part(adapter_record const& r, shard const& p) : facts_{p.first, p.count} {
    auto const& cut = p.by_rows() ? r.b : r.a;
    auto const& cut_start = p.by_rows() ? r.start_b : r.start_a;
    auto same = p.by_rows() ? r.a.values : r.b.values;
    auto const& same_start = p.by_rows() ? r.start_a.values : r.start_b.values;
    same.insert(same.end(), same_start.begin(), same_start.end());
    facts_.push_back(static_cast<index_t>(digest(std::as_bytes(std::span(same)))));
    values_ = cut.values;
    values_.insert(values_.end(), cut_start.values.begin(), cut_start.values.end());
  }
  explicit record_part(std::string const& text)
      : facts_(unpacked<index_t>(text.substr(0, size_of_facts))),
        values_(unpacked<float>(text.substr(size_of_facts))) {}
  std::string text() const { return packed(facts_) + packed(values_); }

  shard part(shard like) const {
    like.first = facts_.at(0), like.count = facts_.at(1);
    return like;
  }
  index_t check_sum() const { return facts_.at(2); }
  /// Copies its factor, or its start, into a part of the whole.
  void copy(bool start, matrix_view<float, host_space> to) const {
    auto at = values_.begin() + static_cast<std::ptrdiff_t>(start ? to.rows * to.cols : 0);
    for (index_t i = 0; i < to.rows; ++i)
      for (index_t j = 0; j < to.cols; ++j) to(i, j) = *at++;
  }

 private:
  static constexpr std::size_t size_of_facts = 3 * sizeof(index_t);
};

}  // namespace detail

/// The record of the whole layer, on every rank, from the adapters of the ranks' parts: what take_record would give of
/// one adapter for all of W. Rank 0 saves it, with those of the other layers, by save_peft. All ranks call it together;
/// it waits for the backend.
/// errors  rank_error, the same on every rank, if take_record refuses on one of them, the parts are not the whole, or
///         the factor that is not cut differs among ranks
/// cost    per rank one message of r*out/ranks numbers (by rows) or r*in/ranks (by columns), twice that with a start
template <Backend B, Communicator<B> C, class T>
adapter_record gather_record(B& be, C& comm, lora<T, B> const& adapter, shard const& part, std::string const& module) {
  std::string const where = "gather_record(" + module + ")";
  adapter_record r;
  auto const brought = detail::agree_on(be, comm, where, [&] {
    detail::check_sharded(sharded_layer{&adapter, part}, where);
    r = take_record(be, adapter, module);
    check_record(r, "gather_record");
    auto const line = detail::shard_line(module, part, adapter) + ", " + std::string(dtype_name(r.type)) +
                      (r.anchored() ? ", with a start" : ", without a start");
    return std::pair(line, detail::record_part(r, part).text());
  });
  std::vector<detail::record_part> theirs;
  std::vector<shard> parts;
  for (auto const& text : brought) parts.push_back(theirs.emplace_back(text).part(part));
  detail::require_whole(parts, where, &comm);
  for (std::size_t k = 0; k < theirs.size(); ++k)
    if (theirs[k].check_sum() != theirs[0].check_sum())
      throw rank_error(where + ": " + (part.by_rows() ? "A" : "B") + " of rank " + std::to_string(k) +
                           " is another than rank 0's, expected the same, because it is not cut (see sum_replicated)",
                       &comm);
  for (bool const start : {false, true}) {
    auto& whole = start ? (part.by_rows() ? r.start_b : r.start_a) : part.by_rows() ? r.b : r.a;
    if (whole.empty()) continue;
    whole = part.by_rows() ? record_matrix(part.whole(), r.rank()) : record_matrix(r.rank(), part.whole());
    for (std::size_t k = 0; k < theirs.size(); ++k)
      theirs[k].copy(start, part.by_rows() ? parts[k].of_b(whole.view()) : parts[k].of_a(whole.view()));
  }
  check_record(r, "gather_record");
  return r;
}

}  // namespace loraga

#pragma once
#include <loraga/io/adapter_record.hpp>
#include <unordered_map>

// Records that do the same to W in another form, and sums of them.

namespace loraga {

/// The factors of r and then of (a, b), whose product counts with `sign`: A' = [A; a], B' = [B, sign*b], E' = [E; 1].
inline adapter_record stacked(adapter_record const& r, record_matrix const& a, record_matrix const& b, float sign) {
  auto sum = r;
  sum.start_a = sum.start_b = {};
  sum.a = {r.a.rows + a.rows, r.a.cols};
  sum.b = {r.b.rows, r.b.cols + b.cols};
  std::copy(a.values.begin(), a.values.end(), std::copy(r.a.values.begin(), r.a.values.end(), sum.a.values.begin()));
  for (index_t i = 0; i < sum.b.rows; ++i)
    for (index_t j = 0; j < sum.b.cols; ++j)
      sum.b.view()(i, j) = j < r.b.cols ? r.b.view()(i, j) : sign * b.view()(i, j - r.b.cols);
  if (!r.has_e()) return sum;
  sum.e = {sum.rank(), 1};
  std::fill(std::copy(r.e.values.begin(), r.e.values.end(), sum.e.values.begin()), sum.e.values.end(), 1.0f);
  return sum;
}

/// The same change of W without a start, at the same s and of rank r + r0. E stays E, and a magnitude the same: it is
/// the length of the rows of W + s*(B*A - B0*A0) in both forms.
/// math    [B, -B0]*[A; A0] = B*A - B0*A0
inline adapter_record widened(adapter_record const& r) {
  return r.anchored() ? stacked(r, r.start_a, r.start_b, -1) : r;
}
inline std::vector<adapter_record> widened(std::vector<adapter_record> const& records) {
  std::vector<adapter_record> plain;
  for (auto const& r : records) plain.push_back(widened(r));
  return plain;
}

/// What the anchor subtracted: B0*A0 at s, as a record; W - s*B0*A0 is the anchored base.
/// errors  state_error if the record is not anchored
inline adapter_record start_of(adapter_record const& r) {
  if (!r.anchored()) raise<state_error>("start_of(" + r.module + ")", "record", "not anchored", "one with A0 and B0");
  return {r.module, r.scale, r.start_a, r.start_b, {}, {}, r.type, {}, {}, r.layer};
}

/// E folded into B, in float: a LoRA that does what AdaLoRA's record does.
inline adapter_record without_e(adapter_record r) {
  if (!r.has_e()) return r;
  for (index_t i = 0; i < r.b.rows; ++i)
    for (index_t j = 0; j < r.rank(); ++j) r.b.view()(i, j) *= r.e.values[static_cast<std::size_t>(j)];
  r.e = {};
  r.type = dtype::F32;
  return r;
}

/// Throws state_error if the record is DoRA's.
inline void require_no_magnitude(adapter_record const& r, std::string const& where) {
  if (r.has_magnitude())
    raise<state_error>(where, "record", "DoRA's: it holds a magnitude",
                       "a plain one: DoRA is no low-rank change of W; see merge_into_model");
}

/// s and E folded into B, and zeros up to `rank`: the same change of W at scale 1.
/// errors  value_error if rank is below the record's; state_error if it is anchored (widen it first) or DoRA's
inline adapter_record folded(adapter_record const& r, index_t rank) {
  std::string const where = "folded(" + r.module + ")";
  if (r.anchored()) raise<state_error>(where, "record", "anchored", "a widened one");
  require_no_magnitude(r, where);
  require_value(rank >= r.rank(), static_cast<double>(rank), where, "rank", "at least the record's");
  bool const exact = r.scale == 1 && !r.has_e();
  adapter_record f{r.module, 1,  {rank, r.a.cols}, {r.b.rows, rank}, {}, {}, exact ? r.type : dtype::F32,
                   {},       {}, r.layer};
  std::copy(r.a.values.begin(), r.a.values.end(), f.a.values.begin());
  for (index_t j = 0; j < r.rank(); ++j) {
    double const factor = r.scale * (r.has_e() ? static_cast<double>(r.e.values[static_cast<std::size_t>(j)]) : 1);
    for (index_t i = 0; i < r.b.rows; ++i)
      f.b.view()(i, j) = static_cast<float>(factor * static_cast<double>(r.b.view()(i, j)));
  }
  return f;
}

/// An adapter by a name of the caller's, and how strongly it counts.
struct weighted_records {
  std::vector<adapter_record> records;  ///< of one adapter
  double weight = 1;                    ///< factor of its change
};

/// One adapter that does what the weighted sum of several does: their factors side by side, ranks added, scale 1.
/// Exact; modules that only some adapters have are kept.
/// errors  as check_record; shape_error if a module has several shapes; value_error for a weight that is not finite, or
///         a module of several kinds; state_error for DoRA's records
inline std::vector<adapter_record> combined(std::vector<weighted_records> const& adapters) {
  std::vector<adapter_record> sum;
  std::unordered_map<std::string, std::size_t> places;  // by module
  for (auto const& one : adapters) {
    require_value(is_finite(one.weight), one.weight, "combined", "weight", "a finite number");
    for (auto const& r : one.records) {
      std::string const where = "combined(" + r.module + ")";
      check_record(r, "combined");
      require_no_magnitude(r, where);
      auto part = widened(r);
      part.scale *= one.weight;
      part = folded(part, part.rank());
      auto const [p, fresh] = places.emplace(r.module, sum.size());
      if (fresh) {
        sum.push_back(std::move(part));
        continue;
      }
      auto* const same = &sum[p->second];
      if (same->a.cols != part.a.cols || same->b.rows != part.b.rows)
        raise<shape_error>(where, "record", shape_text(part.b.rows, part.a.cols),
                           shape_text(same->b.rows, same->a.cols));
      if (same->layer != part.layer)
        raise<value_error>(where, "record", "of " + layer_text(part.layer), layer_text(same->layer));
      *same = stacked(*same, part.a, part.b, 1);
      same->type = dtype::F32;
    }
  }
  return sum;
}

}  // namespace loraga

#pragma once
#include <functional>
#include <loraga/io/peft.hpp>

// New weights files from a base and adapters, one tensor in memory at a time.

namespace loraga {

/// How a base's files are to be read and the new ones written.
struct merge_options {
  bool fan_in_fan_out = false;     ///< the base stores its weights in x out (GPT-2's Conv1D)
  std::string module_prefix = {};  ///< what module names have before the names in the base's files
  overwrite may_replace = overwrite::no;
  /// Called after each tensor: its number from 1 on, and how many there are.
  std::function<void(index_t, index_t)> progress = {};
};

namespace format {

/// w + sum of sign*s*B*A of these, computed in float (double for F64) and rounded once to w's own type; a DoRA's rows
/// are brought to the length of its magnitude before. Some rows at a time, so that beside w and its copy little memory
/// is needed.
template <class T, Backend B>
class weight_change {
  using C = compute_t<T>;
  struct product {
    double factor;
    matrix<C, B> left, right;  // transposed: r x rows, r x cols of w
  };
  B& be_;
  stored_tensor const& w_;
  std::vector<product> products_;
  index_t rows_, cols_, step_;
  decltype(std::declval<B&>().template allocate_host<C>(0)) host_;
  matrix<C, B> sum_;
  bool transposed_ = false;    // w is in x out
  std::vector<double> ratio_;  // of DoRA: g/N by output

  /// Rows of w and the changes, as columns; gone with the next call.
  matrix_view<C, host_space> rows(index_t first, index_t n) {
    auto const* const from = w_.bytes.data() + first * cols_ * static_cast<index_t>(sizeof(T));
    for (index_t i = 0; i < n * cols_; ++i)
      host_.get()[i] = value_as<C>(load_element<T>(from + i * static_cast<index_t>(sizeof(T))));
    auto const staged = col_major(host_.get(), cols_, n);
    auto const part = sum_.view().columns(0, n);
    be_.copy(staged, part);
    for (auto const& p : products_)
      be_.gemm(p.factor, p.right.view().transposed(), p.left.view().columns(first, n), 1.0, part);
    be_.copy(part, staged);
    be_.synchronize();
    return staged;
  }
  template <class F>
  void for_each_piece(F const& f) {
    [[maybe_unused]] auto const precise = be_.full_precision();
    for (index_t first = 0; first < rows_; first += step_) {
      index_t const n = std::min(step_, rows_ - first);
      f(first, rows(first, n));
    }
  }
  /// The lengths N are those of the sum itself, which is at hand: nothing can cancel. A row of 0 stays 0.
  void measure(record_matrix const& magnitude) {
    ratio_.assign(magnitude.values.size(), 0);
    for_each_piece([&](index_t first, auto piece) {
      for (index_t j = 0; j < piece.cols; ++j)
        for (index_t i = 0; i < piece.rows; ++i) {
          auto const x = static_cast<double>(piece(i, j));
          ratio_[output(i, first + j)] += x * x;
        }
    });
    for (std::size_t i = 0; i < ratio_.size(); ++i)
      ratio_[i] = ratio_[i] > 0 ? static_cast<double>(magnitude.values[i]) / std::sqrt(ratio_[i]) : 1;
  }
  std::size_t output(index_t col, index_t row) const { return static_cast<std::size_t>(transposed_ ? col : row); }

 public:
  weight_change(B& be, stored_tensor const& w, std::vector<adapter_record> const& changes, double sign,
                bool fan_in_fan_out)
      : be_(be),
        w_(w),
        rows_(w.rows()),
        cols_(w.cols()),
        step_(std::max<index_t>(1, std::min(rows_, (index_t{1} << 21) / cols_))),  // at most so many elements at a time
        host_(be.template allocate_host<C>(step_ * cols_)),
        sum_(be, cols_, step_) {
    for (auto const& r : changes) {
      auto const plain = without_e(r);
      auto b = uploaded<C>(be, plain.b.view().transposed()), a = uploaded<C>(be, plain.a.view());
      products_.push_back({sign * r.scale, std::move(b), std::move(a)});
      transposed_ = is_stored_transposed(r.layer, w, fan_in_fan_out);
      if (transposed_) std::swap(products_.back().left, products_.back().right);
    }
    if (changes[0].has_magnitude()) measure(changes[0].magnitude);
  }
  std::vector<std::byte> bytes() {
    std::vector<std::byte> to(w_.bytes.size());
    for_each_piece([&](index_t first, auto piece) {
      auto* p = to.data() + first * cols_ * static_cast<index_t>(sizeof(T));
      for (index_t j = 0; j < piece.cols; ++j)
        for (index_t i = 0; i < piece.rows; ++i, p += sizeof(T)) {
          C value = piece(i, j);
          if (!ratio_.empty()) value = static_cast<C>(ratio_[output(i, first + j)] * static_cast<double>(value));
          T const x = static_cast<T>(value);
          std::memcpy(p, &x, sizeof(T));
        }
    });
    return to;
  }
};

/// Throws unless a record can change this weight.
inline void check_change(adapter_record const& r, safetensors_model const& base, double sign,
                         merge_options const& options) {
  char const* const where = "write_changed_model";
  check_record(r, where);
  if (r.anchored()) raise<state_error>(where, r.module, "anchored", "a plain record; see widened and start_of");
  if (r.has_magnitude() && sign != 1)
    raise<state_error>(where, r.module, "DoRA's, and to be taken out",
                       "the base as it was: merged rows have DoRA's lengths, and their own are lost");
  check_against_base(r, base, options.module_prefix, options.fan_in_fan_out, where);
  auto const w = base[weight_name(r.module, options.module_prefix)];
  with_float_type(w.type, w.label, "dtype", [](auto) {});
}

/// Throws unless the records of one weight add up: DoRA's changes are none that do.
inline void check_sum(std::vector<adapter_record> const& changes) {
  for (auto const& r : changes)
    if (r.has_magnitude() && changes.size() > 1)
      raise<state_error>("write_changed_model", r.module, "DoRA's, beside others", "alone: merge one after the other");
}

}  // namespace format

/// Yields the records that change a weight, given its name in the base's files; none where it stays. Asked once for
/// every tensor, when its turn comes, so that what it takes to make a record need not be there for all at once.
template <class F>
concept WeightChange = requires(F& f, std::string const& weight) {
  { f(weight) } -> std::same_as<std::vector<adapter_record>>;
};

/// Copies a model's files with W + sign*s*B*A for the plain records of every weight (several add up; a DoRA's stands
/// alone). `to` is a file where the base is one file, else a folder, which also gets the index.
/// memory  one weight in its own type; the base is mapped
/// errors  value_error for a record of another weight, or no change at all; shape_error; state_error for anchored
///         records (widen them), and for DoRA's beside others or with sign -1; format_error for weights that are not
///         F64, F32, F16 or BF16; file_error; whatever change_of or progress throw. Files appear whole, and none before
///         all are written.
template <Backend B, WeightChange F>
void write_changed_model(B& be, safetensors_model const& base, std::filesystem::path const& to, F&& change_of,
                         double sign, merge_options const& options = {}) {
  char const* const where = "write_changed_model";
  bool const sharded = base.files().size() > 1;
  if (sharded) make_folder(to);
  std::error_code unknown;
  nlohmann::json map = nlohmann::json::object();
  std::size_t total = 0;
  std::vector<safetensors_writer> writers;
  for (auto const& file : base.files()) {
    auto const target = sharded                                      ? to / file.path().filename()
                        : std::filesystem::is_directory(to, unknown) ? to / "model.safetensors"
                                                                     : to;
    if (std::filesystem::equivalent(target, file.path(), unknown))
      raise<value_error>(where, "to", target.string() + ", the base itself", "another place");
    std::vector<tensor_spec> specs;
    for (auto const& t : file.tensors()) {
      specs.push_back({t.name, t.type, t.shape});
      map[t.name] = file.path().filename().string();
      total += t.end - t.begin;
    }
    writers.emplace_back(target, specs, file.metadata(), options.may_replace);
  }
  std::optional<output_file> index;
  if (sharded) {
    index.emplace(to / "model.safetensors.index.json", options.may_replace);
    index->write(0, nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n");
  }

  index_t done = 0, changed = 0, all = static_cast<index_t>(map.size());
  for (std::size_t i = 0; i < writers.size(); ++i)
    for (auto const& t : base.files()[i].tensors()) {
      auto const tensor = base.files()[i][t.name];
      std::vector<adapter_record> const changes = change_of(t.name);
      for (auto const& r : changes) {
        format::check_change(r, base, sign, options);
        if (weight_name(r.module, options.module_prefix) != t.name)
          raise<value_error>(where, "record", "of " + r.module, "one of '" + t.name + "'");
      }
      format::check_sum(changes);
      if (changes.empty()) writers[i].write(t.name, tensor.bytes);
      else
        with_float_type(tensor.type, tensor.label, "dtype", [&]<class T>(T) {
          format::weight_change<T, B> change(be, tensor, changes, sign, options.fan_in_fan_out);
          writers[i].write(t.name, std::span<std::byte const>(change.bytes()));
        });
      base.files()[i].forget(tensor);
      changed += !changes.empty();
      if (options.progress) options.progress(++done, all);
    }
  if (changed == 0) raise<value_error>(where, "changes", "empty", "at least one record");
  for (auto& writer : writers) writer.commit();
  if (index) index->commit();
}

/// The same with all records at hand.
/// errors  as above, but for what is wrong with a record, an unknown module too: that is found before any work
template <Backend B>
void write_changed_model(B& be, safetensors_model const& base, std::filesystem::path const& to,
                         std::vector<adapter_record> const& changes, double sign, merge_options const& options = {}) {
  if (changes.empty()) raise<value_error>("write_changed_model", "changes", "empty", "at least one record");
  std::map<std::string, std::vector<adapter_record const*>> by_weight;
  for (auto const& r : changes) {
    format::check_change(r, base, sign, options);
    by_weight[weight_name(r.module, options.module_prefix)].push_back(&r);
  }
  auto const change_of = [&](std::string const& weight) {
    std::vector<adapter_record> now;
    if (auto const found = by_weight.find(weight); found != by_weight.end())
      for (auto const* r : found->second) now.push_back(*r);
    return now;
  };
  for (auto const& [weight, records] : by_weight) format::check_sum(change_of(weight));
  write_changed_model(be, base, to, change_of, sign, options);
}

/// The base with adapters merged in, relative to the original base: W + s*(B*A - B0*A0), in DoRA (g/N) times its rows.
/// errors  as above
template <Backend B>
void merge_into_model(B& be, safetensors_model const& base, std::filesystem::path const& to,
                      std::vector<adapter_record> const& adapter, merge_options const& options = {}) {
  write_changed_model(be, base, to, widened(adapter), 1, options);
}
/// Takes a merged adapter out again; in 16 bit the base does not come back exactly, and after DoRA not at all.
/// errors  as above
template <Backend B>
void unmerge_from_model(B& be, safetensors_model const& merged, std::filesystem::path const& to,
                        std::vector<adapter_record> const& adapter, merge_options const& options = {}) {
  write_changed_model(be, merged, to, widened(adapter), -1, options);
}
/// W - s*B0*A0, the base to which an anchored adapter's own A and B belong (peft_base::anchored).
/// errors  as above; state_error for a record that is not anchored
template <Backend B>
void save_anchored_base(B& be, safetensors_model const& base, std::filesystem::path const& to,
                        std::vector<adapter_record> const& adapter, merge_options const& options = {}) {
  std::vector<adapter_record> starts;
  for (auto const& r : adapter) starts.push_back(start_of(r));
  write_changed_model(be, base, to, starts, -1, options);
}

}  // namespace loraga

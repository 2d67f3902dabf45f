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

/// w + sum of sign*s*B*A of these, computed in float (double for F64) and rounded once to w's own type. Some rows at a
/// time, so that beside w and its copy little memory is needed.
template <Backend B>
std::vector<std::byte> changed_weight(B& be, stored_tensor const& w, std::vector<adapter_record> const& changes,
                                      double sign, bool fan_in_fan_out) {
  constexpr index_t most = index_t{1} << 21;  // elements at a time
  std::vector<std::byte> bytes(w.bytes.size());
  with_float_type(w.type, w.label, "dtype", [&]<class T>(T) {
    using C = compute_t<T>;
    struct product {
      double factor;
      matrix<C, B> left, right;  // transposed: r x rows, r x cols of w
    };
    std::vector<product> products;
    for (auto const& r : changes) {
      auto b = uploaded<C>(be, r.b.view().transposed()), a = uploaded<C>(be, r.a.view());
      products.push_back({sign * r.scale, std::move(b), std::move(a)});
      if (fan_in_fan_out) std::swap(products.back().left, products.back().right);
    }
    index_t const rows = w.rows(), cols = w.cols(), step = std::max<index_t>(1, std::min(rows, most / cols));
    auto const host = be.template allocate_host<C>(step * cols);
    matrix<C, B> sum(be, cols, step);
    [[maybe_unused]] auto const precise = be.full_precision();
    for (index_t first = 0; first < rows; first += step) {
      index_t const n = std::min(step, rows - first);
      auto const* from = w.bytes.data() + first * cols * static_cast<index_t>(sizeof(T));
      for (index_t i = 0; i < n * cols; ++i)
        host.get()[i] = value_as<C>(load_element<T>(from + i * static_cast<index_t>(sizeof(T))));
      auto const staged = col_major(host.get(), cols, n);
      auto const part = sum.view().columns(0, n);
      be.copy(staged, part);
      for (auto const& p : products)
        be.gemm(p.factor, p.right.view().transposed(), p.left.view().columns(first, n), 1.0, part);
      be.copy(part, staged);
      be.synchronize();
      auto* const to = bytes.data() + first * cols * static_cast<index_t>(sizeof(T));
      for (index_t i = 0; i < n * cols; ++i) {
        T const x = static_cast<T>(host.get()[i]);
        std::memcpy(to + i * static_cast<index_t>(sizeof(T)), &x, sizeof(T));
      }
    }
  });
  return bytes;
}

/// Throws unless a record can change this weight.
inline void check_change(adapter_record const& r, safetensors_model const& base, merge_options const& options) {
  char const* const where = "write_changed_model";
  check_record(r, where);
  if (r.anchored()) raise<state_error>(where, r.module, "anchored", "a plain record; see widened and start_of");
  check_against_base(r, base, options.module_prefix, options.fan_in_fan_out, where);
  auto const w = base[weight_name(r.module, options.module_prefix)];
  with_float_type(w.type, w.label, "dtype", [](auto) {});
}

}  // namespace format

/// Yields the records that change a weight, given its name in the base's files; none where it stays. Asked once for
/// every tensor, when its turn comes, so that what it takes to make a record need not be there for all at once.
template <class F>
concept WeightChange = requires(F& f, std::string const& weight) {
  { f(weight) } -> std::same_as<std::vector<adapter_record>>;
};

/// Copies a model's files with W + sign*s*B*A for the plain records of every weight (several add up). `to` is a file
/// where the base is one file, else a folder, which also gets the index.
/// memory  one weight in its own type; the base is mapped
/// errors  value_error for a record of another weight, or no change at all; shape_error; state_error for anchored
///         records (widen them); format_error for weights that are not F64, F32, F16 or BF16; file_error; whatever
///         change_of or progress throw. Files appear whole, and none before all are written.
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
        format::check_change(r, base, options);
        if (weight_name(r.module, options.module_prefix) != t.name)
          raise<value_error>(where, "record", "of " + r.module, "one of '" + t.name + "'");
      }
      if (changes.empty()) writers[i].write(t.name, tensor.bytes);
      else
        writers[i].write(t.name, std::span<std::byte const>(
                                     format::changed_weight(be, tensor, changes, sign, options.fan_in_fan_out)));
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
    format::check_change(r, base, options);
    by_weight[weight_name(r.module, options.module_prefix)].push_back(&r);
  }
  auto const change_of = [&](std::string const& weight) {
    std::vector<adapter_record> now;
    if (auto const found = by_weight.find(weight); found != by_weight.end())
      for (auto const* r : found->second) now.push_back(*r);
    return now;
  };
  write_changed_model(be, base, to, change_of, sign, options);
}

/// The base with adapters merged in: W + s*(B*A - B0*A0), relative to the original base.  errors  as above
template <Backend B>
void merge_into_model(B& be, safetensors_model const& base, std::filesystem::path const& to,
                      std::vector<adapter_record> const& adapter, merge_options const& options = {}) {
  write_changed_model(be, base, to, widened(adapter), 1, options);
}
/// Takes a merged adapter out again; in 16 bit the base does not come back exactly.  errors  as above
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

#pragma once
#include <functional>
#include <loraga/io/peft.hpp>
#include <loraga/io/weight_change.hpp>

// New weights files from a base and records, one tensor in memory at a time.

namespace loraga {

/// How a base's files are to be read and the new ones written.
struct merge_options {
  bool fan_in_fan_out = false;                      ///< the base stores its weights in x out (GPT-2's Conv1D)
  std::string module_prefix = {};                   ///< what module names have before the names in the base's files
  std::map<std::string, weight_place> places = {};  ///< of modules for which these two are not right
  /// Tensors in place of the base's of these names, rounded to the types those have, or beside them, in its last file.
  /// Changes are added to them.
  std::map<std::string, stored_tensor, std::less<>> replaced = {};
  overwrite may_replace = overwrite::no;
  /// Called after each tensor: its number from 1 on, and how many there are.
  std::function<void(index_t, index_t)> progress = {};
};

namespace format {

/// The tensors of a model that is written from a base: what they begin with.
class merge_sources {
  safetensors_model const& base_;
  std::map<std::string, stored_tensor, std::less<>> const& replaced_;

 public:
  merge_sources(safetensors_model const& base, merge_options const& o) : base_(base), replaced_(o.replaced) {}
  bool contains(std::string const& name) const { return replaced_.contains(name) || base_.contains(name); }
  stored_tensor operator[](std::string const& name) const {
    auto const other = replaced_.find(name);
    return other == replaced_.end() ? base_[name] : other->second;
  }
  bool is_replaced(std::string const& name) const { return replaced_.contains(name); }
  /// The type it is written in: the base's, if that is floating-point.
  dtype type(std::string const& name) const {
    auto const own = (*this)[name].type;
    if (!base_.contains(name)) return own;
    auto const of_base = base_[name].type;
    return dtype_bits(own) >= 16 && dtype_bits(of_base) >= 16 ? of_base : own;
  }
  /// Names by file of the base; the last one's get those that are added.
  std::vector<std::vector<std::string>> names() const {
    std::vector<std::vector<std::string>> files;
    for (std::size_t i = 0; i < base_.files().size(); ++i) files.push_back(base_.names_in(i));
    for (auto const& [name, tensor] : replaced_)
      if (!base_.contains(name)) files.back().push_back(name);
    return files;
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
  auto const place = place_of(options, r.module);
  merge_sources const sources(base, options);
  if (sources.is_replaced(place.weight))
    check_shape(info_of(r), sources[place.weight], place.in_by_out, std::string(where) + "(" + r.module + ")");
  else check_against_base(info_of(r), base, place, where);
  with_float_type(sources.type(place.weight), sources[place.weight].label, "dtype", [](auto) {});
}

/// Throws unless the records of one weight add up: DoRA's changes are none that do.
inline void check_sum(std::vector<adapter_record> const& changes) {
  for (auto const& r : changes)
    if (r.has_magnitude() && changes.size() > 1)
      raise<state_error>("write_changed_model", r.module, "DoRA's, beside others", "alone: merge one after the other");
}

/// The files of a changed model: opened together, renamed together.
class changed_model_files {
  std::vector<safetensors_writer> writers_;
  std::optional<output_file> index_;

 public:
  changed_model_files(safetensors_model const& base, std::filesystem::path const& to, merge_options const& options) {
    merge_sources const sources(base, options);
    auto const names = sources.names();
    if (!base.is_single_file()) {
      make_folder(to);
      refuse_other_weights(base, to);
    }
    std::error_code unknown;
    nlohmann::json map = nlohmann::json::object();
    std::size_t total = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      auto const& from = base.files()[i].path();
      auto const target = std::filesystem::is_directory(to, unknown) ? to / from.filename() : to;
      if (std::filesystem::equivalent(target, from, unknown))
        raise<value_error>("write_changed_model", "to", target.string() + ", the base itself", "another place");
      std::vector<tensor_spec> specs;
      for (auto const& name : names[i]) {
        auto const tensor = sources[name];
        specs.push_back({name, sources.type(name), tensor.shape});
        map[name] = from.filename().string();
        total +=
            static_cast<std::size_t>(element_count(tensor.shape, tensor.label) * dtype_bits(specs.back().type) / 8);
      }
      writers_.emplace_back(target, specs, base.files()[i].metadata(), options.may_replace);
    }
    if (!base.indexed()) return;
    index_.emplace(to / base.file_name(), options.may_replace);
    index_->write(0, nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n");
  }
  /// Readers would take other weights in the folder for the model's, or for a part of it.
  static void refuse_other_weights(safetensors_model const& base, std::filesystem::path const& to) {
    for (auto const& entry : std::filesystem::directory_iterator(to)) {
      auto const name = entry.path().filename().string();
      bool const weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
      bool own = name == base.file_name() || name == "adapter_model.safetensors";
      for (auto const& file : base.files()) own = own || name == file.path().filename().string();
      if (weights && !own)
        raise<value_error>("write_changed_model", "to", to.string() + ", which holds " + name,
                           "a folder without other weights");
    }
  }
  safetensors_writer& operator[](std::size_t file) { return writers_[file]; }
  void commit() {
    for (auto& writer : writers_) writer.commit();
    if (index_) index_->commit();
  }
};

}  // namespace format

/// A function that yields the records that change a weight, given its name in the base's files; none where it stays. It
/// is asked once for every tensor, when its turn comes, so records need not all be there at once.
template <class F>
concept WeightChange = requires(F& f, std::string const& weight) {
  { f(weight) } -> std::same_as<std::vector<adapter_record>>;
};

/// Copies a model's files with W + sign*s*B*A for the plain records of every weight (several add up; a DoRA's stands
/// alone). `to` is a file where the base was given as one file, else a folder, whose files are called as the base's.
/// memory  one weight in its own type; the base is mapped
/// errors  value_error for a record of another weight, or no change at all; shape_error; state_error for anchored
///         records (widen them), and for DoRA's beside others or with sign -1; format_error for weights that are not
///         F64, F32, F16 or BF16; file_error; whatever change_of or progress throw. Files appear whole, and none before
///         all are written.
template <Backend B, WeightChange F>
void write_changed_model(B& be, safetensors_model const& base, std::filesystem::path const& to, F&& change_of,
                         double sign, merge_options const& options = {}) {
  char const* const where = "write_changed_model";
  format::changed_model_files files(base, to, options);
  format::merge_sources const sources(base, options);
  auto const names = sources.names();
  index_t done = 0, changed = static_cast<index_t>(options.replaced.size()), all = 0;
  for (auto const& in_file : names) all += static_cast<index_t>(in_file.size());
  for (std::size_t i = 0; i < names.size(); ++i)
    for (auto const& name : names[i]) {
      auto tensor = sources[name];
      auto const type = sources.type(name);
      std::vector<std::byte> rounded;
      if (type != tensor.type) {
        rounded = format::converted(tensor, type);
        tensor.type = type;
        tensor.bytes = rounded;
      }
      std::vector<adapter_record> const changes = change_of(name);
      for (auto const& r : changes) {
        format::check_change(r, base, sign, options);
        if (place_of(options, r.module).weight != name)
          raise<value_error>(where, "record", "of " + r.module, "one of '" + name + "'");
      }
      format::check_sum(changes);
      if (changes.empty()) files[i].write(name, tensor.bytes);
      else
        with_float_type(type, tensor.label, "dtype", [&]<class T>(T) {
          format::weight_change<T, B> change(be, tensor, changes, sign, place_of(options, changes[0].module).in_by_out);
          files[i].write(name, std::span<std::byte const>(change.bytes()));
        });
      if (base.contains(name)) base.owner(name).forget(base[name]);
      changed += !changes.empty();
      if (options.progress) options.progress(++done, all);
    }
  if (changed == 0) raise<value_error>(where, "changes", "empty", "at least one record");
  files.commit();
}

/// The same with all records at hand.
/// errors  as above, but for what is wrong with a record, an unknown module too: that is found before any work
template <Backend B>
void write_changed_model(B& be, safetensors_model const& base, std::filesystem::path const& to,
                         std::vector<adapter_record> const& changes, double sign, merge_options const& options = {}) {
  if (changes.empty() && options.replaced.empty())
    raise<value_error>("write_changed_model", "changes", "empty", "at least one record");
  std::map<std::string, std::vector<adapter_record const*>> by_weight;
  for (auto const& r : changes) {
    format::check_change(r, base, sign, options);
    by_weight[place_of(options, r.module).weight].push_back(&r);
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

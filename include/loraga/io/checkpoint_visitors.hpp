#pragma once
#include <loraga/concepts.hpp>
#include <loraga/io/safetensors_writer.hpp>
#include <set>

// What a checkpoint's items are called with: a survey and a writing when it is saved, two readings when it is loaded.

namespace loraga {

/// How strictly a checkpoint must fit the program that loads it.
struct checkpoint_options {
  bool settings_may_change = false;  ///< go on with this program's rates and decays where the file has others
};

namespace format {

inline std::map<std::string, std::string> const checkpoint_metadata{{"format", "loraga-checkpoint"}, {"version", "1"}};

template <class T>
concept Number = std::is_arithmetic_v<T>;

/// What all three visits share: names, and how objects, strings, lists and matrices come down to tensors. `Visit` has
///   number(name, Number&, fixed), list(name, std::vector<Number>&), tensor(name, view), optional(name, matrix&, rows,
///   cols), and `changeable`.
template <class B, class Visit>
class checkpoint_visitor {
 protected:
  B& be_;
  std::string prefix_;
  Visit& self() { return static_cast<Visit&>(*this); }
  std::string full(std::string_view name) const { return prefix_ + std::string(name); }
  /// dst = src, one of which is on the host.
  template <class S, class D>
  void move(S src, D dst) {
    if constexpr (std::is_same_v<typename S::space, host_space> && std::is_same_v<typename D::space, host_space>) {
      for (index_t i = 0; i < dst.rows; ++i)  // a GPU's backend does not copy on the host
        for (index_t j = 0; j < dst.cols; ++j) dst(i, j) = src(i, j);
    } else {
      be_.copy(src, dst);
      be_.synchronize();
    }
  }

 public:
  explicit checkpoint_visitor(B& be) : be_(be) {}

  template <class T>
  void operator()(std::string_view name, T&& item) {
    using U = std::remove_cvref_t<T>;
    if constexpr (Number<U>) {
      self().number(full(name), item, false);
    } else if constexpr (std::is_same_v<U, std::string>) {
      std::vector<std::uint8_t> bytes(item.begin(), item.end());
      self().list(full(name), bytes);
      if constexpr (Visit::changes) item.assign(bytes.begin(), bytes.end());
    } else if constexpr (requires {
                           typename U::value_type;
                           requires Number<typename U::value_type>;
                           item.resize(1);
                         }) {
      self().list(full(name), item);
    } else if constexpr (ViewIn<U, typename B::space> || ViewIn<U, host_space>) {
      self().tensor(full(name), item);
    } else {
      auto const outside = prefix_;
      prefix_ = full(name) + ".";
      item.visit_state(self());
      prefix_ = outside;
    }
  }
  /// A number that must be the same in the program that loads.
  template <Number T>
  void same(std::string_view name, T value) {
    self().number(full(name), value, true);
  }
  /// A matrix whose numbers must be the same.
  template <ViewIn<typename B::space> V>
  void same(std::string_view name, V v) {
    self().same_matrix(full(name), v);
  }
  /// The same, unless checkpoint_options allow another one.
  template <Number T>
  void setting(std::string_view name, T value) {
    self().number(full(name), value, !self().settings_may_change());
    // without it the program's own value stays: `value` is a copy
  }
  /// A matrix that may be missing (rows() = 0), in the object or in the file.
  template <class T>
  void optional(std::string_view name, matrix<T, B>& m, index_t rows, index_t cols) {
    self().optional_matrix(full(name), m, rows, cols);
  }
};

/// What both visits of saving share: they change nothing, and every matrix there is is a tensor.
template <class B, class Visit>
struct checkpoint_saving : checkpoint_visitor<B, Visit> {
  static constexpr bool changes = false;
  using checkpoint_visitor<B, Visit>::checkpoint_visitor;
  bool stores() const { return false; }
  bool settings_may_change() const { return false; }
  template <class T>
  void optional_matrix(std::string const& name, matrix<T, B>& m, index_t, index_t) {
    if (m.rows() > 0) this->self().tensor(name, m.view());
  }
  template <class V>
  void same_matrix(std::string const& name, V v) {
    this->self().tensor(name, v);
  }
};

/// First visit of saving: names, types, shapes.
template <class B>
struct checkpoint_survey : checkpoint_saving<B, checkpoint_survey<B>> {
  std::vector<tensor_spec> specs;
  using checkpoint_saving<B, checkpoint_survey>::checkpoint_saving;

  template <Number T>
  void number(std::string const& name, T, bool) {
    specs.push_back({name, dtype_of<T>, {}});
  }
  template <class T>
  void list(std::string const& name, std::vector<T> const& values) {
    specs.push_back({name, dtype_of<T>, {static_cast<index_t>(values.size())}});
  }
  template <class V>
  void tensor(std::string const& name, V v) {
    specs.push_back({name, dtype_of<typename V::value_type>, {v.rows, v.cols}});
  }
};

/// Second visit of saving.
template <class B>
struct checkpoint_writing : checkpoint_saving<B, checkpoint_writing<B>> {
  safetensors_writer& writer;
  checkpoint_writing(B& be, safetensors_writer& w) : checkpoint_saving<B, checkpoint_writing>(be), writer(w) {}

  template <Number T>
  void number(std::string const& name, T value, bool) {
    writer.write(name, std::as_bytes(std::span(&value, 1)));
  }
  template <class T>
  void list(std::string const& name, std::vector<T> const& values) {
    writer.write(name, std::as_bytes(std::span(values)));
  }
  template <class V>
  void tensor(std::string const& name, V v) {
    using T = typename V::value_type;
    auto const host = this->be_.template allocate_host<T>(v.rows * v.cols);
    auto const packed = row_major(host.get(), v.rows, v.cols);
    this->move(const_view<T, typename V::space>(v), packed);
    writer.write(name, packed);
  }
};

/// Both visits of loading: the first only looks.
template <class B>
class checkpoint_reading : public checkpoint_visitor<B, checkpoint_reading<B>> {
  safetensors_file const& file_;
  checkpoint_options options_;
  bool look_only_;
  std::set<std::string> seen_;

  [[noreturn]] void refuse(std::string const& name, std::string const& found, std::string const& expected) const {
    raise<state_error>("load_checkpoint(" + file_.path().string() + ")", name, found + " in the file", expected);
  }
  /// The tensor, if the file has it as this type and shape (-1: any length).
  stored_tensor fetch(std::string const& name, dtype type, std::vector<index_t> const& shape) {
    auto const where = "load_checkpoint(" + file_.path().string() + ")";
    if (!file_.contains(name)) raise<state_error>(where, "'" + name + "'", "missing", "there");
    if (!seen_.insert(name).second && look_only_)
      raise<value_error>(where, "'" + name + "'", "asked for twice", "each name once");
    auto const t = file_[name];
    bool fits = t.type == type && t.shape.size() == shape.size();
    for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == t.shape[i] || shape[i] == -1;
    if (!fits)
      refuse("'" + name + "'", std::string(dtype_name(t.type)) + " " + shape_text(t.shape),
             std::string(dtype_name(type)) + " " + shape_text(shape));
    return t;
  }
  template <class T>
  static T element(stored_tensor const& t, std::size_t i) {
    if constexpr (std::is_same_v<T, bool>) {
      if (t.bytes[i] > std::byte{1}) raise<format_error>(t.label, "value", "no truth value", "0 or 1");
      return t.bytes[i] == std::byte{1};
    } else {
      return load_element<T>(t.bytes.data() + i * sizeof(T));
    }
  }

 public:
  static constexpr bool changes = true;
  checkpoint_reading(B& be, safetensors_file const& file, checkpoint_options options, bool look_only)
      : checkpoint_visitor<B, checkpoint_reading>(be), file_(file), options_(options), look_only_(look_only) {}
  bool settings_may_change() const { return options_.settings_may_change; }
  bool stores() const { return !look_only_; }

  template <Number T>
  void number(std::string const& name, T& value, bool fixed) {
    T const found = element<T>(fetch(name, dtype_of<T>, {}), 0);
    auto const text = [](T x) { return std::is_floating_point_v<T> ? nlohmann::json(x).dump() : std::to_string(x); };
    // Bits, not values: NaN is the same NaN.  NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (fixed && std::memcmp(&found, &value, sizeof(T)) != 0) refuse("'" + name + "'", text(found), text(value));
    if (!look_only_) value = found;
  }
  template <class T>
  void list(std::string const& name, std::vector<T>& values) {
    auto const t = fetch(name, dtype_of<T>, {-1});
    std::vector<T> found;
    for (std::size_t i = 0; i < static_cast<std::size_t>(t.shape[0]); ++i) found.push_back(element<T>(t, i));
    if (!look_only_) values = std::move(found);
  }
  template <class V>
  void tensor(std::string const& name, V v) {
    using T = typename V::value_type;
    auto const t = fetch(name, dtype_of<T>, {v.rows, v.cols});
    if (look_only_) return;
    auto const host = this->be_.template allocate_host<T>(v.rows * v.cols);
    if (!t.bytes.empty()) std::memcpy(host.get(), t.bytes.data(), t.bytes.size());
    this->move(row_major(static_cast<T const*>(host.get()), v.rows, v.cols), v);
    file_.forget(t);
  }
  template <class T>
  void optional_matrix(std::string const& name, matrix<T, B>& m, index_t rows, index_t cols) {
    if (!file_.contains(name)) {
      if (!look_only_) m = {};
      return;
    }
    if (look_only_) return void(fetch(name, dtype_of<T>, {rows, cols}));
    matrix<T, B> found(this->be_, rows, cols);
    tensor(name, found.view());
    m = std::move(found);
  }
  template <class V>
  void same_matrix(std::string const& name, V v) {
    using T = typename V::value_type;
    auto const t = fetch(name, dtype_of<T>, {v.rows, v.cols});
    if (!look_only_) return;
    auto const host = this->be_.template allocate_host<T>(v.rows * v.cols);
    this->move(const_view<T, typename V::space>(v), row_major(host.get(), v.rows, v.cols));
    if (std::memcmp(host.get(), t.bytes.data(), t.bytes.size()) != 0)
      refuse("'" + name + "'", "of other numbers", "those of this program");
  }
  /// Nothing in the file may stay behind.
  void require_all_seen() const {
    for (auto const& t : file_.tensors())
      if (!seen_.contains(t.name)) refuse("'" + t.name + "'", "present", "nothing of that name in this program");
  }
};

}  // namespace format

}  // namespace loraga

#pragma once
#include <loraga/adapter/adalora.hpp>
#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>
#include <variant>
#include <vector>

namespace loraga {

/// The library's adapters, for a choice at run time: `lora`, `dora`, `adalora`, `lora_sb`.
enum class adapter_kind { lora, dora, adalora, lora_sb };

/// An adapter whose class is chosen at run time: one of the library's, or one of `More`. An Adapter itself, so that
/// initialisers, anchors, optimisers, merge, checkpoints and files take it as it is.
///   any_adapter<float, cpu> adapter(adapter_kind::dora, be, out, in, 8, rank_stable_scaling{});
///   adapter = lora<float, cpu>(be, out, in, 4, classic_scaling{});
/// errors  as the adapter inside
/// cost    that of the adapter inside, and a branch per call
template <Element T, class B, class... More>
class any_adapter {
  using choice = std::variant<lora<T, B>, dora<T, B>, adalora<T, B>, lora_sb<T, B>, More...>;
  choice held_;

  template <class A>
  struct tape_of {
    typename A::tape passes;
  };
  template <class... A>
  static std::variant<std::monostate, tape_of<A>...> tapes(std::variant<A...>*);

 public:
  using value_type = T;
  using space = typename B::space;
  using compute = compute_t<T>;
  /// The type of the dY that backward returns: dY's own where adapters compute in that, so that it is not converted.
  template <class Y>
  using seen_t = std::conditional_t<std::is_same_v<Y, inner_t<B, T>>, Y, compute>;

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    bool keep = false;  ///< let backward go through one pass more than once (the gradients add up)
    decltype(tapes(static_cast<choice*>(nullptr))) held;  ///< the tape of the adapter inside
    matrix<compute, B> dy;  ///< the dY that backward returns, where none of that type is at hand

    /// The tape of an A; a new one if it was another class's.
    template <class A>
    typename A::tape& of() {
      using mine = tape_of<A>;
      return std::holds_alternative<mine>(held) ? std::get<mine>(held).passes : held.template emplace<mine>().passes;
    }
  };

  template <class A>  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): no alternative is an any_adapter
  requires std::is_constructible_v<choice, A&&> any_adapter(A&& adapter) : held_(std::forward<A>(adapter)) {}
  /// errors  as the adapter's constructor
  template <Scaling S>
  any_adapter(adapter_kind kind, B& be, index_t out, index_t in, index_t rank, S const& scaling,
              lora_options options = {})
      : held_(make(kind, be, out, in, rank, scaling, options)) {}

  /// f(adapter), whichever class it is of.
  template <class F>
  decltype(auto) visit(F&& f) {
    return std::visit(std::forward<F>(f), held_);
  }
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), held_);
  }
  /// The adapter, if it is an A.
  template <class A>
  A* get() {
    return std::get_if<A>(&held_);
  }

  /// Which of the library's it is; for one of `More` the number behind those.
  adapter_kind kind() const { return static_cast<adapter_kind>(held_.index()); }
  index_t out() const {
    return of([](auto const& ad) { return ad.out(); });
  }
  index_t in() const {
    return of([](auto const& ad) { return ad.in(); });
  }
  index_t rank() const {
    return of([](auto const& ad) { return ad.rank(); });
  }
  double scale() const {
    return of([](auto const& ad) { return ad.scale(); });
  }
  std::uint64_t seed() const {
    return of([](auto const& ad) { return ad.seed(); });
  }
  bool started() const {
    return of([](auto const& ad) { return ad.started(); });
  }
  bool merged() const {
    return of([](auto const& ad) { return ad.merged(); });
  }
  index_t trainable() const {
    return of([](auto const& ad) { return ad.trainable(); });
  }
  matrix_view<T, space> a() {
    return visit([](auto& ad) { return ad.a(); });
  }
  matrix_view<T, space> b() {
    return visit([](auto& ad) { return ad.b(); });
  }
  matrix_view<T const, space> a() const {
    return of([](auto const& ad) { return ad.a(); });
  }
  matrix_view<T const, space> b() const {
    return of([](auto const& ad) { return ad.b(); });
  }
  /// All gradients as one column.
  /// errors  state_error for borrowed memory, which is in several places: see parameters()
  matrix_view<compute, space> gradient() {
    return visit([](auto& ad) { return ad.gradient(); });
  }
  void zero_gradient(B& be) {
    visit([&](auto& ad) { ad.zero_gradient(be); });
  }
  void values_changed(B& be) {
    visit([&](auto& ad) { ad.values_changed(be); });
  }
  void train(bool on) {
    visit([&](auto& ad) { ad.train(on); });
  }
  std::vector<parameter<T, space>> parameters() {
    return visit([](auto& ad) {
      auto const all = ad.parameters();
      return std::vector<parameter<T, space>>(all.begin(), all.end());
    });
  }

  template <class W, class X, class Y>
  void forward(B& be, W w, X x, Y y, tape& t) {
    visit([&](auto& ad) { ad.forward(be, w, x, y, t.template of<std::remove_cvref_t<decltype(ad)>>()); });
  }
  /// The same where the caller has W*X alone at hand, which saves DoRA a product; others ignore it.
  template <class W, class X, class P, class Y>
  void forward(B& be, W w, X x, P product, Y y, tape& t) {
    visit([&](auto& ad) {
      auto& mine = t.template of<std::remove_cvref_t<decltype(ad)>>();
      if constexpr (requires { ad.forward(be, w, x, product, y, mine); }) ad.forward(be, w, x, product, y, mine);
      else ad.forward(be, w, x, y, mine);
    });
  }
  /// Whether that form of forward saves a product.
  bool wants_product() const { return std::holds_alternative<dora<T, B>>(held_); }
  /// For evaluation, without dropout and without a tape.
  template <class W, class X, class Y>
  void forward(B& be, W w, X x, Y y) {
    visit([&](auto& ad) { ad.forward(be, w, x, y); });
  }
  template <class W, class X, class Y, class D = matrix_view<compute, space>>
  [[nodiscard]] matrix_view<seen_t<typename Y::value_type> const, space> backward(B& be, W w, X x, Y dy, tape& t,
                                                                                  double beta = 0, D dx = {}) {
    using result = matrix_view<seen_t<typename Y::value_type> const, space>;
    return visit([&](auto& ad) -> result {
      auto& mine = t.template of<std::remove_cvref_t<decltype(ad)>>();
      mine.keep = t.keep;
      auto const seen = ad.backward(be, w, x, dy, mine, beta, dx);
      if constexpr (std::is_convertible_v<decltype(seen), result>) {
        return seen;
      } else {
        if (t.dy.rows() != seen.rows || t.dy.cols() < seen.cols) t.dy = matrix<compute, B>(be, seen.rows, seen.cols);
        auto const wide = t.dy.view().columns(0, seen.cols);
        convert(be, seen, wide);
        return wide;
      }
    });
  }

  template <class W>
  void merge(B& be, W w) {
    visit([&](auto& ad) { ad.merge(be, w); });
  }
  template <class W>
  void unmerge(B& be, W w) {
    visit([&](auto& ad) { ad.unmerge(be, w); });
  }
  template <class W>
  void add_change(B& be, W w, double factor = 1) const {
    of([&](auto const& ad) { ad.add_change(be, w, factor); });
  }

  matrix_view<T const, space> start_a() const {
    return of([](auto const& ad) { return ad.start_a(); });
  }
  matrix_view<T const, space> start_b() const {
    return of([](auto const& ad) { return ad.start_b(); });
  }
  bool paired() const {
    return of([](auto const& ad) { return ad.paired(); });
  }
  bool anchored_in_place() const {
    return of([](auto const& ad) { return ad.anchored_in_place(); });
  }
  void check_start() const {
    of([](auto const& ad) { ad.check_start(); });
  }
  /// Refuses, when it runs, pairs that would not compile with the class itself.
  /// errors  state_error
  template <class I, class X>
  void check_start_of() const {
    char const* const where = "initialise(any_adapter)";
    of([&]<class A>(A const&) {
      if constexpr (requires { A::takes_changed_weight; })
        if (I::starts != start_kind::at_zero && X::changes_weight)
          raise<state_error>(where, "anchor", "one that changes W", "frozen_pair_anchor: AdaLoRA prunes its start");
      if constexpr (requires { A::trains_factors, I::disjoint_triplets; })
        raise<state_error>(where, "initialiser", "LoRA-GA's, from which R's gradient is 0",
                           "lora_sb_init, lora_one_init or pissa_init for a lora_sb");
    });
  }
  template <class W>
  void subtract_start(B& be, W w, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    visit([&](auto& ad) { ad.subtract_start(be, w, a, b); });
  }
  void freeze_start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    visit([&](auto& ad) { ad.freeze_start(be, a, b); });
  }
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    visit([&](auto& ad) { ad.start(be, a, b); });
  }
  template <class W>
  void anchor_again(B& be, W w) {
    visit([&](auto& ad) { ad.anchor_again(be, w); });
  }
  record_extra holds() const {
    return of([]<class A>(A const&) { return A::holds; });
  }
  template <class R>
  void write_record(B& be, R& record) const {
    of([&](auto const& ad) { ad.write_record(be, record); });
  }
  template <class R>
  void read_record(B& be, R const& record) {
    visit([&](auto& ad) { ad.read_record(be, record); });
  }
  template <class C>
  void visit_state(C& c) {
    c.same("kind", static_cast<index_t>(held_.index()));
    visit([&](auto& ad) { ad.visit_state(c); });
  }

 private:
  template <class F>
  decltype(auto) of(F const& f) const {
    return std::visit(f, held_);
  }
  template <class S>
  static choice make(adapter_kind kind, B& be, index_t out, index_t in, index_t rank, S const& scaling,
                     lora_options options) {
    switch (kind) {
      case adapter_kind::lora:
        return lora<T, B>(be, out, in, rank, scaling, options);
      case adapter_kind::dora:
        return dora<T, B>(be, out, in, rank, scaling, options);
      case adapter_kind::adalora:
        return adalora<T, B>(be, out, in, rank, scaling, options);
      case adapter_kind::lora_sb:
        return lora_sb<T, B>(be, out, in, rank, scaling, options);
    }
    raise<value_error>("any_adapter", "kind", std::to_string(static_cast<int>(kind)), "an adapter_kind");
  }
};

}  // namespace loraga

#pragma once
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <loraga/adapter/lora.hpp>
#include <loraga/torch/view.hpp>
#include <string>

namespace loraga::libtorch::detail {

/// What a layer's `anchor` tensor holds, for torch's files.
enum class anchor_mark : std::int64_t {
  none,     ///< no A0 and B0
  pair,     ///< passes subtract them
  in_place  ///< W holds -s*B0*A0
};

/// A and B as tensors, and an adapter that works on their memory. LibTorch replaces a tensor's storage without a word
/// (Module::to, torch::load), and writes to it; `follow` finds out.
template <Element T, class B>
class tracked_factors {
  using space = typename B::space;

  /// How often a tensor was written; tensors of InferenceMode do not count that.
  static std::int64_t writes_of(at::Tensor const& t) {
    return t.is_inference() ? 0 : static_cast<std::int64_t>(t._version());
  }
  /// Where a tensor's numbers are, and how often they were written.
  struct place {
    void const* data = nullptr;
    index_t row_stride = 0;
    std::int64_t version = 0;
    explicit place(at::Tensor const& t)
        : data(t.data_ptr()), row_stride(t.dim() == 2 ? t.stride(0) : 0), version(writes_of(t)) {}
    place() = default;
    bool operator==(place const&) const = default;
    bool same_memory(place const& other) const { return data == other.data && row_stride == other.row_stride; }
  };
  struct places {
    place a, b, start_a, start_b, anchor;
  };

  index_t out_, in_, rank_;
  double scale_;
  lora_options options_;
  std::string where_;  // the layer's class, for messages
  at::Tensor da_, db_;
  places seen_;
  at::Tensor weight_;  // W's memory while the adapter is in it; held, so that no other weight can come to lie there
  std::int64_t weight_writes_ = 0;

 public:
  at::Tensor a, b;              ///< r x in and out x r, B column-major
  at::Tensor start_a, start_b;  ///< A0 and B0 of an anchored start, else zeros
  at::Tensor anchor;            ///< an anchor_mark

  /// errors  value_error for a rank below 1 (by the adapter that is made next)
  tracked_factors(index_t out, index_t in, index_t rank, double scale, lora_options options, std::string where,
                  at::Device device)
      : out_(out), in_(in), rank_(rank), scale_(scale), options_(options), where_(std::move(where)) {
    require_value(rank >= 1, static_cast<double>(rank), where_, "rank", "at least 1");
    auto const values = at::TensorOptions().dtype(scalar_type<T>).device(device);
    auto const sums = values.dtype(scalar_type<compute_t<T>>);
    auto const by_columns = [&](auto const& o) { return at::empty_strided({out, rank}, {1, out}, o).zero_(); };
    a = at::zeros({rank, in}, values);
    b = by_columns(values);
    start_a = at::zeros({rank, in}, values);
    start_b = by_columns(values);
    anchor = at::zeros({}, values.dtype(at::kLong));
    da_ = at::zeros({rank, in}, sums);
    db_ = by_columns(sums);
  }

  /// An adapter over these tensors; what is in A and B counts as a start, unless it is 0.
  lora<T, B> make(B& be) {
    lora<T, B> adapter(be, memory(), constant_scaling{scale_}, options_);
    remember();
    return adapter;
  }

  /// Gives the adapter what LibTorch has moved or written since the last call. `loaded`: base and adapter were read
  /// from one file, so that W is the one that belongs to them.
  /// errors  value_error, shape_error where a tensor is no longer of the adapter's type, memory or shape; state_error if
  ///         anything moved while W holds the adapter (merged), or W was written or changed while it is anchored in
  ///         place
  /// cost    comparisons of addresses, where nothing has changed; one of W, where all has moved
  void follow(B& be, lora<T, B>& adapter, at::Tensor const& weight, bool loaded = false) {
    auto const now = where();
    bool const start_same = !loaded && starts_in(now, seen_);
    bool const factors_stay = now.a.same_memory(seen_.a) && now.b.same_memory(seen_.b);
    if (start_same) check_weight(weight);
    if (start_same && now.a == seen_.a && now.b == seen_.b) return;
    if (adapter.merged() && !(start_same && factors_stay))
      raise<state_error>(where_, "A, B or their start", "moved or written while merged", "changed after unmerge");
    auto const here = memory();
    if (!start_same) {
      if (!loaded) check_moved_weight(weight);
      restart(be, adapter, here);
    } else if (!factors_stay || !adapter.started()) {
      adapter.adopt(be, here);
    } else if constexpr (is_16bit<T>) {
      adapter.values_changed(be);
    }
    remember();
    if (!start_same) hold(adapter, weight);
  }
  /// Whether W is still the one that holds the adapter, where one holds it.
  /// errors  state_error, as follow
  void check_base(at::Tensor const& weight) const {
    if (starts_in(where(), seen_)) check_weight(weight);
    else check_moved_weight(weight);
  }

  /// To be called after the adapter wrote A, B, its start or W: versions grow, the start's tensors follow, gradients of
  /// the old values go.
  void written(B& be, lora<T, B>& adapter, at::Tensor const& weight) {
    bool const stay = place(a).same_memory(seen_.a) && place(b).same_memory(seen_.b);
    if (!stay || !adapter.started()) adapter.adopt(be, memory());  // by hand: numbers other than 0 are a start
    bool const anchored = adapter.start_a().rows > 0;
    if (anchored) {
      be.copy(adapter.start_a(), view<T, space>(start_a, where_, "start_A"));
      be.copy(adapter.start_b(), view<T, space>(start_b, where_, "start_B"));
    } else {
      at::NoGradGuard const off;
      start_a.zero_();
      start_b.zero_();
    }
    auto const mark = adapter.paired()              ? anchor_mark::pair
                      : adapter.anchored_in_place() ? anchor_mark::in_place
                                                    : anchor_mark::none;
    anchor.fill_(static_cast<std::int64_t>(mark));
    for (auto* t : {&a, &b, &start_a, &start_b}) bump(*t);
    a.mutable_grad().reset();
    b.mutable_grad().reset();
    if (adapter.anchored_in_place()) bump(weight);
    hold(adapter, weight);
    remember();
  }
  /// To be called after W was written: merged, unmerged or anchored.
  void weight_written(lora<T, B> const& adapter, at::Tensor const& weight) {
    bump(weight);
    hold(adapter, weight);
  }

  /// Copies of the gradients that a backward added, for autograd to keep.
  std::pair<at::Tensor, at::Tensor> gradients() const {
    auto const copy = [](at::Tensor const& from, at::Tensor const& like) {
      return like.scalar_type() == from.scalar_type() ? from.clone() : from.to(like.scalar_type());
    };
    return {copy(da_, a), copy(db_, b)};
  }
  /// Where A and B lie: not to change between forward and backward.
  std::array<void const*, 2> addresses() const { return {a.data_ptr(), b.data_ptr()}; }

 private:
  borrowed_factors<T, space> memory() const {
    return {view<T, space>(a, where_, "lora_A"), view<T, space>(b, where_, "lora_B"),
            view<compute_t<T>, space>(da_, where_, "dA"), view<compute_t<T>, space>(db_, where_, "dB")};
  }
  places where() const { return {place(a), place(b), place(start_a), place(start_b), place(anchor)}; }
  void remember() { seen_ = where(); }

  void hold(lora<T, B> const& adapter, at::Tensor const& weight) {
    bool const inside = adapter.merged() || adapter.anchored_in_place();
    weight_ = inside ? weight.variable_data() : at::Tensor();
    weight_writes_ = writes_of(weight);
  }
  static bool starts_in(places const& now, places const& before) {
    return now.start_a == before.start_a && now.start_b == before.start_b && now.anchor == before.anchor;
  }
  /// W of an adapter that is in it must be the one it was put into, untouched.
  void check_weight(at::Tensor const& weight) const {
    if (!weight_.defined()) return;
    if (weight_.data_ptr() != weight.data_ptr()) refuse_weight("another one than");
    if (weight_writes_ != writes_of(weight)) refuse_weight("written by others since it was the one that");
  }
  /// The same where all tensors have moved: a way there and back may have rounded W.
  void check_moved_weight(at::Tensor const& weight) const {
    if (!weight_.defined() || weight_.data_ptr() == weight.data_ptr()) return;
    if (weight_.scalar_type() != weight.scalar_type() || weight_.device() != weight.device()) return;
    if (!weight_.equal(weight.variable_data())) refuse_weight("moved, with other numbers than");
  }
  [[noreturn]] void refuse_weight(std::string const& how) const {
    raise<state_error>(
        where_, "the base's weight", how + " the adapter was merged into or anchored in",
        "that one, untouched: unmerge before weights are loaded, moved or written; load base and adapter "
        "from one file, or start anew. If it does hold the adapter still, call layer->written()");
  }

  /// A new adapter, with the start that the tensors say. An anchored W is loaded as it was left, so that nothing may be
  /// taken out of it again: the product goes to memory that is thrown away.
  void restart(B& be, lora<T, B>& adapter, borrowed_factors<T, space> const& here) {
    auto const mark = static_cast<anchor_mark>(anchor.item().toLong());
    if (mark != anchor_mark::none && mark != anchor_mark::pair && mark != anchor_mark::in_place)
      raise<value_error>(where_, "anchor", std::to_string(anchor.item().toLong()), "0, 1 or 2");
    auto const a0 = view<T, space>(start_a, where_, "start_A");
    auto const b0 = view<T, space>(start_b, where_, "start_B");
    require_shape(a0, rank_, in_, where_, "start_A");
    require_shape(b0, out_, rank_, where_, "start_B");
    here.check(out_, in_, rank_, true);
    lora<T, B> anew(be, here, constant_scaling{scale_}, options_);
    anew.restart_dropout(be, adapter.dropout_passes(be));
    if (mark == anchor_mark::pair) anew.freeze_start(be, a0, b0);
    if (mark == anchor_mark::in_place) {
      matrix<compute_t<T>, B> thrown_away(be, out_, in_);
      fill(be, thrown_away.view(), 0);
      anew.subtract_start(be, thrown_away.view(), a0, b0);
    }
    if (mark != anchor_mark::none) anew.start(be, here.a, here.b);
    adapter = std::move(anew);
  }
};

}  // namespace loraga::libtorch::detail

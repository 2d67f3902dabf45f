#pragma once
#include <loraga/adapter/lora_passes.hpp>

namespace loraga {

/// LoRA around the caller's own W. T is the type that A and B are stored in. In 16 bit they have a float master copy,
/// and sums and gradients are float; inner_t says what a pass keeps in between.
/// math    y = W*x + s*B*A*drop(x)
/// shapes  A r x in (row-major), B out x r (column-major)
/// errors  shape_error, alias_error, state_error from passes, before anything changes
/// cost    per token 2*r*(in + out) operations forward, twice that backward; after the first step of a shape nothing is
///         allocated
/// memory  r*(in + out) numbers for values and for gradients, in 16 bit for master copies, too; r*tokens per tape. With a
///         frozen pair twice that, and 2*r*(in + out) of scratch, or r*(2*in + 3*out) of a device's tape
/// source  arXiv:2106.09685
template <Element T, class B>
class lora : public lora_passes<T, B> {
  using base = lora_passes<T, B>;

 public:
  using typename base::compute;
  using typename base::space;
  using typename base::tape;

  /// A and B are 0, and passes refuse to work until the adapter is started.
  /// errors  value_error if rank < 1, a size is < 1, or dropout is outside [0, 1)
  template <Scaling S>
  lora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : base(be, out, in, rank, scaling, options, 0) {}
  /// An adapter over memory of A, B and their gradients that someone else owns. What is in it counts as a start.
  /// errors  as above; shape_error, alias_error if the views do not fit together
  template <Scaling S>
  lora(B& be, borrowed_factors<T, space> const& memory, S const& scaling, lora_options options = {})
      : base(be, memory, scaling, options, 0) {}

  using base::anchor_again;
  using base::start;
  using base::values_changed;
  using base::visit_state;

  /// A and B with their gradients. Addresses stay the same for the adapter's life, but for adopt.
  std::array<parameter<T, space>, 2> parameters() { return this->factor_parameters(); }

  /// Y += s*B*A*drop(X), minus the frozen start where there is one. W is not used. A merged adapter adds nothing.
  /// errors  shape_error, alias_error; state_error for an adapter without a start
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const&, X x, Y y, tape& t) {
    this->forward_through(be, this->b(), x, y, t);
  }
  /// The same for evaluation, without dropout and without a tape.
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const& w, X x, Y y) {
    typename base::evaluation_pass const pass(*this);
    forward(be, w, x, y, this->evaluation_);
  }

  /// Adds the gradients of A and B, and sets dX. Without dX, or with an empty one, that part is skipped.
  /// math    H = A*drop(X), dH = s*BT*dY; dB += s*dY*HT; dA += dH*drop(X)T; dX = beta*dX + AT*dH through the same mask
  /// returns  the dY that the base's own backward shall use: here dY itself
  /// errors  shape_error, alias_error; state_error if the adapter is merged, or if the tape is empty, another adapter's, of
  ///         another number of tokens or mode, or used by a backward already (see tape.keep)
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D = matrix_view<compute, space>>
  [[nodiscard]] matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t,
                                                                          double beta = 0, D dx = {}) {
    this->backward_through(be, this->b(), this->factors_.db, x, dy, t, beta, dx);
    return dy;
  }

  /// W += s*B*A, minus the frozen start where there is one. In 16 bit W does not come back exactly.
  /// errors  shape_error; state_error if merged already
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    this->require_started("lora::merge");
    auto kept = this->copy_of_values(be);  // first: if memory runs out, W is as it was
    add_change(be, w);
    this->merged_ = std::move(kept);
  }
  /// W -= what merge added, also if A and B have changed since.
  /// errors  shape_error; state_error if not merged
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    auto const kept = this->merged_values();
    this->add_product(be, this->a_of(kept), this->b_of(kept), w, -1);
    this->merged_ = {};
  }
  /// W += factor*(what merge adds), for any W, such as a copy to evaluate or to export. The adapter stays as it is.
  /// errors  shape_error
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    this->add_product(be, this->a(), this->b(), w, factor);
  }

  /// Gives `record` what adapter files hold beside scale and start: a(view), b(view), and e(view) or magnitude(view).
  template <class R>
  void write_record(B&, R& record) const {
    record.a(this->a());
    record.b(this->b());
  }
  /// The adapter becomes what a record says, as a new start.
  template <class R>
  void read_record(B& be, R const& record) {
    this->start(be, record.a(), record.b());
  }
};

}  // namespace loraga

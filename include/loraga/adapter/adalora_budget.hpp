#pragma once
#include <algorithm>
#include <loraga/adapter/adalora.hpp>
#include <numeric>
#include <vector>

namespace loraga {

/// How many triplets a model of L layers may keep at step t.
/// math    b(t) = initial_rank*L for t <= warmup; target_rank*L for t > total - final; between them
///         floor((initial_rank*L - target_rank*L)*(1 - (t - warmup)/(total - final - warmup))^3 + target_rank*L)
/// source  arXiv:2303.10512 eq. (8), with huggingface/peft's defaults
struct adalora_schedule {
  index_t initial_rank = 12;  ///< the mean of the adapters' own ranks
  index_t target_rank = 8;    ///< the mean rank at the end
  index_t warmup = 0;         ///< steps before the first pruning
  index_t final = 0;          ///< steps at the end, in which the choice is for good
  index_t total = 1;          ///< steps of the training
  index_t interval = 1;       ///< steps between prunings
  double beta1 = 0.85;        ///< smoothing of importance
  double beta2 = 0.85;        ///< smoothing of its uncertainty

  /// errors  value_error for a field that does not fit
  void check() const {
    auto const text = [](index_t n) { return static_cast<double>(n); };
    require_value(target_rank >= 1 && target_rank <= initial_rank, text(target_rank), "adalora_schedule", "target_rank",
                  "within 1..initial_rank");
    require_value(warmup >= 0, text(warmup), "adalora_schedule", "warmup", "not negative");
    require_value(final >= 0, text(final), "adalora_schedule", "final", "not negative");
    require_value(total > warmup + final, text(total), "adalora_schedule", "total", "above warmup + final");
    require_value(interval >= 1, text(interval), "adalora_schedule", "interval", "at least 1");
    require_value(beta1 > 0 && beta1 < 1, beta1, "adalora_schedule", "beta1", "within (0, 1)");
    require_value(beta2 > 0 && beta2 < 1, beta2, "adalora_schedule", "beta2", "within (0, 1)");
  }
  /// b(step) for so many layers.
  index_t budget(index_t step, index_t layers) const {
    if (step <= warmup) return initial_rank * layers;
    if (step > total - final) return target_rank * layers;
    double const left = 1 - static_cast<double>(step - warmup) / static_cast<double>(total - final - warmup);
    auto const first = static_cast<double>(initial_rank * layers), last = static_cast<double>(target_rank * layers);
    return static_cast<index_t>((first - last) * (left * left * left) + last);
  }
  /// Whether triplets are pruned at this step.
  bool prunes(index_t step) const { return step >= total - final || (step > warmup && step % interval == 0); }
};

namespace detail {

/// One scalar's importance |w*g|, smoothed, and the smoothed distance from that.
template <class W, class G, class S>
struct importance {
  W w;
  G g;
  S mean, spread;
  double beta1, beta2;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename S::value_type;
    double const now = std::fabs(as_double(w(i, j)) * as_double(g(i, j)));
    double const m = beta1 * as_double(mean(i, j)) + (1 - beta1) * now;
    mean(i, j) = static_cast<C>(m);
    spread(i, j) = static_cast<C>(beta2 * as_double(spread(i, j)) + (1 - beta2) * std::fabs(now - m));
  }
};

}  // namespace detail

/// AdaLoRA's budget over the layers of a model. It watches which triplets matter and prunes the others, until the
/// choice is for good at step total - final. Adapters are borrowed. Call update after the optimiser's step, before
/// gradients are zeroed.
/// math    per trained number w with gradient g: I = |w*g|; M <- b1*M + (1-b1)*I; U <- b2*U + (1-b2)*|I - M|;
///         score(w) = M*U; per triplet: score(E_i) + mean_j score(A_ij) + mean_j score(B_ji);
///         the initial_rank*L - b(t) lowest triplets go, on a tie the later ones
/// cost    one pass over all parameters per step; a pruning step waits for one number per triplet
/// memory  two numbers per trained number
/// source  arXiv:2303.10512, in the form of huggingface/peft
template <Element T, class B>
class adalora_budget {
 public:
  using space = typename B::space;
  using compute = compute_t<T>;

  /// errors  value_error as schedule.check, for no adapters, a null one, one given twice, or ranks whose sum is not
  ///         initial_rank times their number
  adalora_budget(B& be, std::vector<adalora<T, B>*> adapters, adalora_schedule schedule)
      : adapters_(std::move(adapters)), schedule_(schedule) {
    schedule_.check();
    for (std::size_t i = 0; i < adapters_.size(); ++i) {
      if (!adapters_[i]) raise<value_error>("adalora_budget", "adapter", "null", "an adapter");
      if (std::count(adapters_.begin(), adapters_.end(), adapters_[i]) > 1)
        raise<value_error>("adalora_budget", "adapter", "given twice", "each adapter once");
      triplets_ += adapters_[i]->rank();
    }
    require_value(!adapters_.empty(), 0, "adalora_budget", "adapters", "at least one");
    require_value(triplets_ == schedule_.initial_rank * layers(), static_cast<double>(triplets_), "adalora_budget",
                  "sum of ranks", "initial_rank times the number of adapters");
    scores_ = matrix<double, B>(be, triplets_, 1);
    keep_ = matrix<double, B>(be, triplets_, 1);
    fill(be, keep_.view(), 1);
    for (auto* ad : adapters_)
      for (auto const& p : ad->parameters()) {
        auto const v = by_triplet(p.value, p.kind);
        for (auto* list : {&mean_, &spread_}) {
          list->emplace_back(be, v.rows, v.cols);
          fill(be, list->back().view(), 0);
        }
      }
  }

  index_t steps() const { return steps_; }                                   ///< updates so far
  index_t layers() const { return static_cast<index_t>(adapters_.size()); }  ///< adapters
  /// Triplets that the last pruning kept, all together.
  index_t kept() const {
    return ranks_.empty() ? triplets_ : std::accumulate(ranks_.begin(), ranks_.end(), index_t{0});
  }
  /// The same per adapter; empty before the first pruning.
  std::vector<index_t> const& ranks() const { return ranks_; }

  /// Ends a step: takes note of importance, and prunes where the schedule says so. Leave it out where a step's
  /// gradients are not finite.
  /// errors  state_error if an adapter is merged, before anything changes; numeric_error if an importance is not finite:
  ///         nothing is pruned then, and the budget cannot be used any more
  void update(B& be) {
    for (auto const* ad : adapters_)
      if (ad->merged()) raise<state_error>("adalora_budget::update", "adapter", "merged", "unmerged in training");
    index_t const step = steps_ + 1, fixed = schedule_.total - schedule_.final;
    if (step < fixed) watch(be);
    if (step <= fixed && schedule_.prunes(step)) choose(be, triplets_ - schedule_.budget(step, layers()));
    if (schedule_.prunes(step) && !ranks_.empty()) prune(be);
    steps_ = step;
  }

  /// The rest of AdaLoRA's loss, which keeps A and B orthonormal: sets `value` and adds the derivative to the
  /// gradients. Call it between backward and the optimiser's step. AdaLoRA's weight is 0.5.
  /// math    value = sum over all layers of weight/(2*layers)*(||A*AT - I||_F + ||BT*B - I||_F)
  /// shapes  value 1x1, in double
  /// errors  shape_error
  void add_orthogonality(B& be, double weight, matrix_view<double, space> value) {
    require_shape(value, 1, 1, "adalora_budget::add_orthogonality", "value");
    fill(be, value, 0);
    for (auto* ad : adapters_) ad->add_orthogonality(be, weight / static_cast<double>(2 * layers()), value);
  }

  template <class C>
  void visit_state(C& c) {
    c.same("adapters", layers());
    c.same("triplets", triplets_);
    c.same("initial_rank", schedule_.initial_rank);
    c.same("target_rank", schedule_.target_rank);
    c.setting("warmup", schedule_.warmup);
    c.setting("final", schedule_.final);
    c.setting("total", schedule_.total);
    c.setting("interval", schedule_.interval);
    c.setting("beta1", schedule_.beta1);
    c.setting("beta2", schedule_.beta2);
    c("steps", steps_);
    c("ranks", ranks_);
    c("keep", keep_.view());
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      c("mean." + std::to_string(i), mean_[i].view());
      c("spread." + std::to_string(i), spread_[i].view());
    }
  }

 private:
  std::vector<adalora<T, B>*> adapters_;
  adalora_schedule schedule_;
  index_t triplets_ = 0, steps_ = 0;
  std::vector<matrix<compute, B>> mean_, spread_;  // of A, B, E of each adapter, one column per triplet
  matrix<double, B> scores_, keep_;
  std::vector<index_t> ranks_;

  /// A parameter with one column per triplet.
  template <class V>
  static V by_triplet(V v, parameter_kind kind) {
    return kind == parameter_kind::factor_b ? v : v.transposed();
  }
  void watch(B& be) {
    std::size_t at = 0;
    for (auto* ad : adapters_)
      for (auto const& p : ad->parameters()) {
        auto const w = by_triplet(p.value, p.kind);
        auto const g = by_triplet(p.gradient, p.kind);
        auto const m = mean_[at].view(), u = spread_[at].view();
        be.for_each(
            w.rows, w.cols,
            detail::importance<decltype(w), decltype(g), decltype(m)>{w, g, m, u, schedule_.beta1, schedule_.beta2});
        ++at;
      }
  }
  /// The `fewer` triplets of lowest score are marked as gone.
  void choose(B& be, index_t fewer) {
    score(be);
    auto const scores = read_all(be, scores_.view());
    for (double const s : scores)
      if (!is_finite(s)) raise<numeric_error>("adalora_budget::update", "importance", "not finite", "finite numbers");
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t x, std::size_t y) { return scores[x] != scores[y] ? scores[x] < scores[y] : x > y; });
    std::vector<double> keep(scores.size(), 1);
    for (index_t i = 0; i < fewer; ++i) keep[order[static_cast<std::size_t>(i)]] = 0;
    be.copy(col_major(static_cast<double const*>(keep.data()), triplets_, 1), keep_.view());
    be.synchronize();
    ranks_.clear();
    auto next = keep.begin();
    for (auto* ad : adapters_) {
      ranks_.push_back(static_cast<index_t>(std::count(next, next + ad->rank(), 1.0)));
      next += ad->rank();
    }
  }
  void score(B& be) {
    scratch<B> temporary(be);
    index_t first = 0;
    std::size_t at = 0;
    for (auto* ad : adapters_) {
      index_t const r = ad->rank();
      auto const part = temporary.template matrix<double>(r, 1), total = scores_.view().row_range(first, r);
      fill(be, total, 0);
      for ([[maybe_unused]] auto const& p : ad->parameters()) {
        auto const m = mean_[at].view();
        column_dots(be, m, spread_[at].view(), part);
        axpby(be, 1 / static_cast<double>(m.rows), part, 1.0, total);
        ++at;
      }
      first += r;
    }
  }
  void prune(B& be) {
    index_t first = 0;
    for (auto* ad : adapters_) {
      ad->prune(be, keep_.view().row_range(first, ad->rank()));
      first += ad->rank();
    }
  }
};

}  // namespace loraga

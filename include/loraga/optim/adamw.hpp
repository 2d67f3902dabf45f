#pragma once
#include <algorithm>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/optim/schedule.hpp>
#include <vector>

namespace loraga {

/// Settings that the parameters of one group share. Weight decay follows the rate, as in PyTorch.
struct adamw_group {
  double learning_rate = 1e-3;  ///< the group's rate is learning_rate*ratio*schedule
  double ratio = 1;             ///< LoRA+'s, 1 for all but B
  double beta1 = 0.9;           ///< decay of the first moment
  double beta2 = 0.999;         ///< decay of the second moment
  double epsilon = 1e-8;        ///< added to the root of the second moment
  double weight_decay = 0;      ///< a share of the value per step, times the rate

  bool operator==(adamw_group const&) const = default;
};

namespace detail {

/// What one step needs of a group, computed on the device so that a captured step can be replayed.
struct adamw_constants {
  double step_size, root_correction, beta1, beta2, epsilon, keep;
};

template <class S, class Clock, class Out>
struct adamw_prepare {
  adamw_group group;
  S schedule;
  Clock clock;  // steps done
  Out out;
  LORAGA_HD void operator()(index_t, index_t) const {
    double const t = static_cast<double>(clock(0, 0) + 1);
    double const rate = group.learning_rate * group.ratio * schedule.factor(clock(0, 0));
    out(0, 0) = {
        rate / (1 - pow(group.beta1, t)), sqrt(1 - pow(group.beta2, t)), group.beta1, group.beta2, group.epsilon,
        1 - rate * group.weight_decay};
  }
};

template <class Clock>
struct tick {
  Clock clock;
  LORAGA_HD void operator()(index_t, index_t) const { ++clock(0, 0); }
};

/// One AdamW step of one element. `master` is the value itself unless values are stored in 16 bit.
template <class Constants, class V, class M, class G>
struct adamw_step {
  Constants constants;
  V value;
  M master;
  G gradient, first, second;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename G::value_type;
    auto const& k = constants(0, 0);
    C const g = gradient(i, j);
    C const m = static_cast<C>(k.beta1) * first(i, j) + static_cast<C>(1 - k.beta1) * g;
    C const v = static_cast<C>(k.beta2) * second(i, j) + static_cast<C>(1 - k.beta2) * g * g;
    first(i, j) = m;
    second(i, j) = v;
    C const denominator = std::sqrt(v) / static_cast<C>(k.root_correction) + static_cast<C>(k.epsilon);
    C const x = static_cast<C>(master(i, j)) * static_cast<C>(k.keep) - static_cast<C>(k.step_size) * m / denominator;
    master(i, j) = x;
    value(i, j) = static_cast<typename V::value_type>(x);
  }
};

}  // namespace detail

/// AdamW with parameter groups. Moments and master copies are kept in compute_t<T>. Weight decay on an anchored adapter
/// pulls towards W - s*B0*A0, not towards W, so the default is 0.
/// math    m <- b1*m + (1-b1)*g; v <- b2*v + (1-b2)*g^2; w <- w*(1 - lr*wd) - lr*(m/(1-b1^t))/(sqrt(v/(1-b2^t)) + eps)
/// cost    a step is one pass over the parameters; it allocates nothing and waits for nothing
/// memory  two numbers per parameter
/// source  Loshchilov, Hutter, arXiv:1711.05101; LoRA+ is arXiv:2402.12354
template <Element T, class B, Schedule S = constant_schedule>
class adamw {
  using space = typename B::space;
  using compute = compute_t<T>;
  struct entry {
    parameter<T, space> p;
    std::size_t group;
    matrix<compute, B> first, second;
  };
  S schedule_;
  std::vector<adamw_group> groups_;
  std::vector<entry> entries_;
  std::vector<matrix<detail::adamw_constants, B>> constants_;
  matrix<index_t, B> clock_;

 public:
  using parameter_type = parameter<T, space>;  ///< what add takes
  /// errors  as the schedule's check
  explicit adamw(B& be, S schedule = {}) : schedule_(schedule), clock_(be, 1, 1) {
    schedule_.check();
    fill(be, clock_.view(), 0);
  }

  /// Returns the number of a new group, for add.
  /// errors  value_error for a rate, ratio or decay that is negative or not finite, an epsilon not above 0, or a beta
  ///         outside [0, 1)
  std::size_t add_group(B& be, adamw_group g) {
    auto const ok = [](double x) { return is_finite(x) && x >= 0; };
    // an epsilon of 0 would divide a gradient of 0 by 0, and A's first gradient is 0 in LoRA
    require_value(ok(g.epsilon) && g.epsilon > 0, g.epsilon, "adamw::add_group", "epsilon", "finite and above 0");
    require_value(ok(g.learning_rate), g.learning_rate, "adamw::add_group", "learning_rate", "finite and not negative");
    require_value(ok(g.ratio), g.ratio, "adamw::add_group", "ratio", "finite and not negative");
    require_value(ok(g.weight_decay), g.weight_decay, "adamw::add_group", "weight_decay", "finite and not negative");
    require_value(g.beta1 >= 0 && g.beta1 < 1, g.beta1, "adamw::add_group", "beta1", "in [0, 1)");
    require_value(g.beta2 >= 0 && g.beta2 < 1, g.beta2, "adamw::add_group", "beta2", "in [0, 1)");
    groups_.push_back(g);
    constants_.emplace_back(be, 1, 1);
    return groups_.size() - 1;
  }

  /// The number of the group with these settings; a new one where there is none.
  /// errors  as add_group
  std::size_t group(B& be, adamw_group const& g) {
    auto const found = std::find(groups_.begin(), groups_.end(), g);
    return found == groups_.end() ? add_group(be, g) : static_cast<std::size_t>(found - groups_.begin());
  }
  std::size_t groups() const { return groups_.size(); }  ///< how many
  /// The rate of a group, without ratio and schedule.
  /// errors  value_error if there is no such group
  double learning_rate(std::size_t group) const { return checked(group, "adamw::learning_rate").learning_rate; }
  /// Sets a group's rate from the next step on. A captured step keeps the rate that it was captured with.
  /// errors  value_error if there is no such group, or for a rate that is negative or not finite
  void set_learning_rate(std::size_t group, double rate) {
    checked(group, "adamw::set_learning_rate");
    require_value(is_finite(rate) && rate >= 0, rate, "adamw::set_learning_rate", "rate", "finite and not negative");
    groups_[group].learning_rate = rate;
  }

  /// Adds a parameter to train. Its views must stay valid; its moments start at 0.
  /// errors  value_error if there is no such group; shape_error if value, gradient or master differ in shape or are no
  ///         matrices; state_error if the parameter was added before (a tied layer's is added once)
  void add(B& be, std::size_t group, parameter<T, space> p) {
    checked(group, "adamw::add");
    require_shape(p.gradient, p.value.rows, p.value.cols, "adamw::add", "gradient");
    if constexpr (is_16bit<T>) require_shape(p.master, p.value.rows, p.value.cols, "adamw::add", "master");
    require_matrix(p.value, "adamw::add", "value");
    require_matrix(p.gradient, "adamw::add", "gradient");
    if constexpr (is_16bit<T>) require_matrix(p.master, "adamw::add", "master");
    for (auto const& e : entries_)
      if (overlap(e.p.value, p.value)) raise<state_error>("adamw::add", "value", "added already", "a new parameter");
    if (runs_by_rows(p.value)) {  // so that steps run along memory
      p.value = p.value.transposed();
      p.gradient = p.gradient.transposed();
      p.master = p.master.transposed();
    }
    index_t const rows = p.value.rows, cols = p.value.cols;
    entries_.push_back({p, group, {be, rows, cols}, {be, rows, cols}});
    fill(be, entries_.back().first.view(), 0);
    fill(be, entries_.back().second.view(), 0);
  }

  template <class C>
  void visit_state(C& c) {
    c.same("groups", static_cast<index_t>(groups_.size()));
    c.same("parameters", static_cast<index_t>(entries_.size()));
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      auto const& g = groups_[i];
      auto const of = "group." + std::to_string(i) + ".";
      c.setting(of + "learning_rate", g.learning_rate);
      c.setting(of + "ratio", g.ratio);
      c.setting(of + "beta1", g.beta1);
      c.setting(of + "beta2", g.beta2);
      c.setting(of + "epsilon", g.epsilon);
      c.setting(of + "weight_decay", g.weight_decay);
    }
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      auto& e = entries_[i];
      auto const of = "parameter." + std::to_string(i) + ".";
      c.same(of + "group", static_cast<index_t>(e.group));
      c(of + "first", e.first.view());
      c(of + "second", e.second.view());
    }
    c("steps", clock_.view());
  }

  /// Steps every parameter by its gradient; gradients are left as they are.
  /// errors  state_error without parameters, or if the adapter a parameter belongs to is gone; nothing changes then
  void step(B& be) {
    if (entries_.empty()) raise<state_error>("adamw::step", "optimiser", "without parameters", "add_adapter before it");
    for (auto const& e : entries_)
      if (e.p.alive && !*e.p.alive)
        raise<state_error>("adamw::step", e.p.name, "of an adapter that is gone",
                           "adapters that outlive the optimiser, at one place");
    auto const clock = clock_.view();
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      auto const out = constants_[g].view();
      be.for_each(1, 1, detail::adamw_prepare<S, decltype(clock), decltype(out)>{groups_[g], schedule_, clock, out});
    }
    be.for_each(1, 1, detail::tick<decltype(clock)>{clock});
    for (auto& e : entries_) {
      matrix_view<detail::adamw_constants const, space> const k = constants_[e.group].view();
      auto const& p = e.p;
      auto const run = [&](auto master) {
        be.for_each(p.value.rows, p.value.cols,
                    detail::adamw_step<decltype(k), decltype(p.value), decltype(master), decltype(p.gradient)>{
                        k, p.value, master, p.gradient, e.first.view(), e.second.view()});
      };
      if constexpr (is_16bit<T>) run(p.master);
      else run(p.value);
    }
  }

 private:
  adamw_group const& checked(std::size_t group, std::string_view where) const {
    require_value(group < groups_.size(), static_cast<double>(group), where, "group", "one that add_group returned");
    return groups_[group];
  }
};

/// Adds an adapter's parameters to the group of these settings, B to one whose ratio is the LoRA+ ratio. A ratio of 1
/// gives LoRA, bit for bit. Adapters of equal settings share groups, because a step launches a kernel for each group.
/// errors  as adamw::add_group and adamw::add
template <class Optimiser, Backend B, class A>
void add_adapter(B& be, Optimiser& optimiser, A& adapter, adamw_group settings, double lora_plus_ratio = 1) {
  auto const others = optimiser.group(be, settings);
  settings.ratio *= lora_plus_ratio;
  auto const factor_b = optimiser.group(be, settings);
  using theirs = std::remove_cvref_t<decltype(adapter.parameters()[0])>;
  static_assert(std::is_same_v<theirs, typename Optimiser::parameter_type>,
                "the optimiser's element type and backend are the adapter's: adamw<bf16, cpu> for lora<bf16, cpu>");
  if constexpr (std::is_same_v<theirs, typename Optimiser::parameter_type>)
    for (auto const& p : adapter.parameters())
      optimiser.add(be, p.kind == parameter_kind::factor_b ? factor_b : others, p);
}

}  // namespace loraga

#pragma once
#include <algorithm>
#include <loraga/optim/adamw_step.hpp>
#include <loraga/optim/clip.hpp>
#include <loraga/optim/schedule.hpp>
#include <vector>

namespace loraga {

/// AdamW with parameter groups. Moments and master copies are kept in compute_t<T>. Weight decay on an anchored adapter
/// pulls towards W - s*B0*A0, not towards W, so the default is 0.
/// math    m <- b1*m + (1-b1)*g; v <- b2*v + (1-b2)*g^2; w <- w*(1 - lr*wd) - lr*(m/(1-b1^t))/(sqrt(v/(1-b2^t)) + eps)
/// cost    a step is one pass over the parameters; it waits for nothing and allocates nothing, but for the first one
///         after `add` on a GPU. There it is two launches for up to 16 groups and any number of parameters (a third
///         where some have gaps between their columns)
/// memory  two numbers per trained number
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
  using cell = matrix_view<double, space>;
  template <class U>
  using gapless = detail::gapless<U>;
  template <class U>
  using strided = matrix_view<U, space>;

  S schedule_;
  std::vector<adamw_group> groups_;
  std::vector<entry> entries_;
  detail::footprints values_;
  std::vector<matrix<detail::adamw_constants<compute>, B>> constants_;
  matrix<index_t, B> clock_;
  gradient_list<B, compute> gradients_;
  // Every parameter is in one of these, with what a step needs of it.
  grid_list<detail::adamw_record<gapless<T>, gapless<compute>>, B> without_gaps_;
  grid_list<detail::adamw_record<strided<T>, strided<compute>>, B> with_gaps_;

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
    auto const where = detail::footprint::of(p.value);
    if (values_.overlaps(where)) raise<state_error>("adamw::add", "value", "added already", "a new parameter");
    if (runs_by_rows(p.value)) {  // so that steps run along memory
      p.value = p.value.transposed();
      p.gradient = p.gradient.transposed();
      p.master = p.master.transposed();
    }
    index_t const rows = p.value.rows, cols = p.value.cols;
    entries_.push_back({p, group, {be, rows, cols}, {be, rows, cols}});
    fill(be, entries_.back().first.view(), 0);
    fill(be, entries_.back().second.view(), 0);
    gradients_.add(p.gradient);
    values_.add(where);
    add_record(entries_.back());
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

  /// All parameters' gradients become 0: one launch on a GPU. As the adapters' own zero_gradient for each.
  /// errors  as step
  void zero_gradients(B& be) {
    require_parameters("adamw::zero_gradients");
    gradients_.zero(be);
  }

  /// Steps every parameter by its gradient; gradients are left as they are.
  /// errors  state_error without parameters, or if the adapter a parameter belongs to is gone; nothing changes then
  void step(B& be) {
    require_parameters("adamw::step");
    advance(be, {}, 0, false);
  }
  /// The same with gradients scaled together to a joint 2-norm of at most `limit`, in passing: what is in their memory
  /// stays. The norm they had goes to `norm` (1x1, in the backend's memory). Three launches more on a GPU.
  /// errors  also value_error unless limit > 0; shape_error unless norm is 1x1
  void step(B& be, double limit, matrix_view<double, space> norm) {
    require_parameters("adamw::step");
    detail::check_clip(limit, norm.rows, norm.cols, "adamw::step");
    gradients_.joint_norm(be, norm);
    advance(be, norm, limit, true);
  }

 private:
  void require_parameters(char const* where) const {
    if (entries_.empty()) raise<state_error>(where, "optimiser", "without parameters", "add_adapter before it");
    for (auto const& e : entries_)
      if (e.p.alive && !*e.p.alive)
        raise<state_error>(where, e.p.name, "of an adapter that is gone",
                           "adapters that outlive the optimiser, at one place");
  }
  void add_record(entry& e) {
    auto const& p = e.p;
    auto const master = [&] {
      if constexpr (is_16bit<T>) return p.master;
      else return p.value;
    }();
    auto* const constants = constants_[e.group].view().data;
    auto const first = e.first.view(), second = e.second.view();
    if (gapless<T>::fits(p.value) && gapless<T>::fits(p.gradient) && gapless<T>::fits(master))
      without_gaps_.add(p.value.rows * p.value.cols, 1,
                        {constants, {p.value.data}, {master.data}, {p.gradient.data}, {first.data}, {second.data}});
    else with_gaps_.add(p.value.rows, p.value.cols, {constants, p.value, master, p.gradient, first, second});
  }
  void advance(B& be, cell norm, double limit, bool clips) {
    make_ready(be, without_gaps_);  // before the clock ticks
    make_ready(be, with_gaps_);
    using prepare = detail::adamw_prepare<compute, S, matrix_view<index_t, space>, cell>;
    auto const count = static_cast<index_t>(groups_.size());
    for (index_t from = 0; from < count; from += prepare::most) {
      index_t const now = std::min(prepare::most, count - from);
      prepare some{schedule_, clock_.view(), norm, limit, clips, from + now == count, now, {}, {}};
      for (index_t k = 0; k < now; ++k) {
        auto const g = static_cast<std::size_t>(from + k);
        some.group[k] = groups_[g];
        some.out[k] = constants_[g].view().data;
      }
      be.for_each(1, 1, some);
    }
    for_each_of(be, without_gaps_, detail::adamw_step{});
    if (!with_gaps_.empty()) for_each_of(be, with_gaps_, detail::adamw_step{});
  }
  adamw_group const& checked(std::size_t group, std::string_view where) const {
    require_value(group < groups_.size(), static_cast<double>(group), where, "group", "one that add_group returned");
    return groups_[group];
  }
};

/// Adds an adapter's parameters to the group of these settings, B to one whose ratio is the LoRA+ ratio. A ratio of 1
/// gives LoRA, bit for bit. Adapters of equal settings share groups.
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

#pragma once
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>
#include <loraga/start/needs.hpp>
#include <numeric>
#include <vector>

namespace loraga {

/// Which singular vectors go where. Any r for A and the r others for B among the first 2r are optimal.
enum class ga_directions {
  ArB2r,  ///< A = V[:, 0:r]T,    B = U[:, r:2r]; the paper's default
  A2rBr,  ///< A = V[:, r:2r]T,   B = U[:, 0:r]
  ArBr,   ///< A = V[:, 1:2r:2]T, B = U[:, 0:2r:2]
  random  ///< a seeded disjoint split, for ablations; r small copies instead of one
};

/// How large A and B are made; m = out. The PEFT scales reproduce huggingface/peft's "lora_ga", which is not the
/// paper's.
enum class ga_scale {
  stable,          ///< both times m^(1/4)/sqrt(gamma); the paper's default
  gd,              ///< both times 1/s: the first SGD step is -lr times the rank-2r truncation of G
  unit,            ///< both as they are
  weight_svd,      ///< both times mean over i < r of sqrt(sigma_i(W)/s)
  peft_stable,     ///< A as it is, B times diag(sigma of its triplets)*m^(1/4)/sqrt(gamma)
  peft_weight_svd  ///< A as it is, B times diag(sigma of its triplets)*sigma_1(W)/(sigma of B's first triplet)
};

namespace detail {

/// Columns first, first+step, ... of src times one factor (and each its sigma, if given) to the columns of dst.
template <class Src, class Sigma, class Factor, class Dst>
struct place_columns {
  static constexpr bool in_steps = true;
  Src src;
  Sigma sigma;  // k x 1, or empty
  Factor factor;
  Dst dst;
  index_t first, step;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const t = first + step * j;
    double const weight = factor(0, 0) * (sigma.rows > 0 ? static_cast<double>(sigma(t, 0)) : 1.0);
    using C = compute_t<typename Dst::value_type>;
    dst(i, j) = static_cast<typename Dst::value_type>(static_cast<C>(weight * static_cast<double>(src(i, t))));
  }
};

template <class Sigma, class Cell>
struct mean_root {  // mean over i of sqrt(sigma_i/scale)
  Sigma sigma;
  double scale;
  Cell cell;
  LORAGA_HD void operator()(index_t, index_t) const {
    double sum = 0;
    for (index_t i = 0; i < sigma.rows; ++i) sum += sqrt(static_cast<double>(sigma(i, 0)) / scale);
    cell(0, 0) = sum / static_cast<double>(sigma.rows);
  }
};

template <class W, class G, class Cell>
struct peft_weight_ratio {  // sigma_1(W)/sigma_first(G)
  W weight;
  G gradient;
  index_t first;
  Cell cell;
  LORAGA_HD void operator()(index_t, index_t) const {
    cell(0, 0) = static_cast<double>(weight(0, 0)) / static_cast<double>(gradient(first, 0));
  }
};

/// y *= sqrt(min(1, limit/value)). A limit of 0 would leave an adapter that can never learn, NaN none at all: y then
/// becomes NaN, which `initialise` refuses.
template <class Cell, class Y>
struct clip_root {
  static constexpr bool in_steps = true;
  Cell limit, value;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    bool const usable = is_finite(limit(0, 0)) && limit(0, 0) > 0;
    double const nan = bits_as<double>(std::uint64_t{0x7ff8000000000000u});
    double const rho = !usable ? nan : value(0, 0) > limit(0, 0) ? limit(0, 0) / value(0, 0) : 1.0;
    using C = compute_t<typename Y::value_type>;
    y(i, j) = static_cast<typename Y::value_type>(static_cast<C>(y(i, j)) * static_cast<C>(sqrt(rho)));
  }
};

}  // namespace detail

/// LoRA-GA: A and B are made of the singular vectors of the mean weight gradient. So the first steps of the adapter
/// follow those of full fine-tuning. Use it with an anchor, and with rank_stable_scaling.
/// math    G ~ U S VT; A = c*V[:, 0:r]T, B = c*U[:, r:2r], c = m^(1/4)/sqrt(gamma), m = out; for other choices see
///         ga_directions and ga_scale
/// shapes  gradient triplets 2r; A r x in; B out x r
/// units   the size of G does not enter, but with a scale of PEFT's; gamma has no unit and is 16 or 64 in the paper
/// errors  shape_error if 2r > min(out, in); value_error if gamma <= 0, if clip or the scale needs a W and none is
///         given, or if s <= 0 where the scale divides by it
/// cost    beside the triplets of G, and of W where the scale takes some: r*(out + in) elements, asynchronous; with clip
///         also the product s*B*A
/// source  arXiv:2407.05000 Alg. 1 and its authors' code; with the paper's s = alpha/sqrt(r)
struct lora_ga_init {
  double gamma = 16;                                ///< the larger, the smaller A and B
  ga_directions directions = ga_directions::ArB2r;  ///< which singular vectors
  ga_scale scale = ga_scale::stable;                ///< how large
  /// Shrinks the offset until max|s*B*A| <= max|W|, as the authors' code does: by rho, so A and B by sqrt(rho).
  bool clip = false;
  std::uint64_t seed = 0;  ///< of ga_directions::random

  static constexpr start_kind starts = start_kind::offset;
  static constexpr bool in_steps = true;           ///< all of make is work for the backend
  static constexpr bool disjoint_triplets = true;  ///< A and B take different triplets: lora_sb would not train
  std::tuple<gradient_triplets, optional_weight_triplets, optional_weight> needs(layer_facts const& of) const {
    index_t const of_weight = scale == ga_scale::weight_svd ? of.rank : scale == ga_scale::peft_weight_svd ? 1 : 0;
    return {{2 * of.rank}, {of_weight}, {clip}};
  }
  void check(layer_facts const& of) const {
    if (2 * of.rank > std::min(of.out, of.in))
      raise<shape_error>("lora_ga_init", "rank", std::to_string(of.rank),
                         "at most " + std::to_string(std::min(of.out, of.in) / 2) + " for " +
                             shape_text(of.out, of.in) + " (2*rank singular vectors are needed)");
    require_value(gamma > 0 && is_finite(gamma), gamma, "lora_ga_init", "gamma", "a positive finite number");
    if (scale == ga_scale::gd || scale == ga_scale::weight_svd)
      require_value(of.scale > 0, of.scale, "lora_ga_init", "scaling s", "above 0, because this scale divides by it");
    if (clip && !of.has_weight) raise<value_error>("lora_ga_init", "W", "not given", "a view of W, which clip needs");
  }

  template <Backend B, class F, class FW, class W, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, F const& gradient, FW const& weight, W w, V a, V b) const {
    scratch<B> temporary(be);
    auto const both = temporary.template matrix<double>(1, 1), one = temporary.template matrix<double>(1, 1);
    bool const peft = scale == ga_scale::peft_stable || scale == ga_scale::peft_weight_svd;
    if (peft) fill(be, one, 1);
    auto const split = columns(at.rank, at.number);
    set_factor(be, at, gradient.s, weight.s, both, split.b[0]);
    auto const sigma = peft ? gradient.s : decltype(gradient.s){};
    place(be, gradient.v, {}, peft ? one : both, a.transposed(), split.a);
    place(be, gradient.u, sigma, both, b, split.b);
    if (clip) shrink(be, at.scale, w, a, b);
  }

  /// Triplet numbers for the rows of A and the columns of B.
  struct choice {
    std::vector<index_t> a, b;
  };
  /// Which triplets a layer's A and B take.
  choice columns(index_t r, std::uint64_t number) const {
    std::vector<index_t> order(static_cast<std::size_t>(2 * r));
    std::iota(order.begin(), order.end(), index_t{0});
    if (directions == ga_directions::random)
      for (std::size_t i = order.size(); i-- > 1;) {
        auto const u = random_uniform({seed, number}, i);
        std::swap(order[i], order[static_cast<std::size_t>(u * static_cast<double>(i + 1))]);
      }
    choice c;
    for (index_t i = 0; i < r; ++i) {
      bool const interleaved = directions == ga_directions::ArBr;
      index_t first = interleaved ? 2 * i + 1 : i, second = interleaved ? 2 * i : r + i;
      if (directions == ga_directions::A2rBr) std::swap(first, second);
      c.a.push_back(order[static_cast<std::size_t>(first)]);
      c.b.push_back(order[static_cast<std::size_t>(second)]);
    }
    return c;
  }

 private:
  template <class B, class S, class SW, class Cell>
  void set_factor(B& be, layer_facts const& at, S sigma, SW weight_sigma, Cell cell, index_t b_first) const {
    switch (scale) {
      case ga_scale::stable:
      case ga_scale::peft_stable:
        return fill(be, cell, std::pow(static_cast<double>(at.out), 0.25) / std::sqrt(gamma));
      case ga_scale::gd:
        return fill(be, cell, 1 / at.scale);
      case ga_scale::unit:
        return fill(be, cell, 1);
      case ga_scale::weight_svd:
        return be.for_each(1, 1, detail::mean_root<SW, Cell>{weight_sigma, at.scale, cell});
      case ga_scale::peft_weight_svd:
        return be.for_each(1, 1, detail::peft_weight_ratio<SW, S, Cell>{weight_sigma, sigma, b_first, cell});
    }
  }

  /// One call where the triplets are evenly spaced, else one per column.
  template <class B, class Src, class Cell, class Dst>
  static void place(B& be, Src src, Src sigma, Cell factor, Dst dst, std::vector<index_t> const& triplets) {
    using F = detail::place_columns<Src, Src, Cell, Dst>;
    index_t const step = triplets.size() > 1 ? triplets[1] - triplets[0] : 1;
    bool even = true;
    for (std::size_t i = 1; i < triplets.size(); ++i) even = even && triplets[i] - triplets[i - 1] == step;
    if (even) return be.for_each(dst.rows, dst.cols, F{src, sigma, factor, dst, triplets[0], step});
    for (index_t j = 0; j < dst.cols; ++j)
      be.for_each(dst.rows, 1, F{src, sigma, factor, dst.columns(j, 1), triplets[static_cast<std::size_t>(j)], 1});
  }

  template <class B, class W, class V>
  static void shrink(B& be, double s, W w, V a, V b) {
    scratch<B> temporary(be);
    auto const limit = temporary.template matrix<double>(1, 1), value = temporary.template matrix<double>(1, 1);
    auto const offset = temporary.template matrix<compute_t<typename V::value_type>>(b.rows, a.cols);
    be.gemm(s, b, a, 0.0, offset);
    max_abs(be, w, limit);
    max_abs(be, offset, value);
    be.for_each(a.rows, a.cols, detail::clip_root<decltype(limit), V>{limit, value, a});
    be.for_each(b.rows, b.cols, detail::clip_root<decltype(limit), V>{limit, value, b});
  }
};

}  // namespace loraga

#pragma once
#include <loraga/gradient/input_statistics.hpp>
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// EVA: A looks where the layer's inputs vary most.
/// math    A = the r principal directions of the centred inputs, as unit rows; B = 0
/// errors  shape_error if r > in; numeric_error from `initialise` if the inputs are not finite, or all the same
/// cost    an SVD method's passes over the in x in scatter
/// source  arXiv:2410.07170; ranks and alpha per layer: redistribute_ranks
struct eva_init {
  static constexpr start_kind starts = start_kind::at_zero;
  input_directions needs(layer_facts const& of) const { return {of.rank}; }
  void check(layer_facts const& of) const { require_rank(of.rank, of.in, of.in, "eva_init"); }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const&, F const& inputs, V a, V b) const {
    convert(be, inputs.v, a.transposed());
    fill(be, b, 0);
  }
};

/// Tells when a layer has seen enough: its principal directions no longer turn from one look to the next.
/// memory  in x k numbers
template <class B, class T = float>
class eva_convergence {
  matrix<T, B> before_;
  std::vector<double> explained_;

 public:
  /// Returns how many of the k directions agree with those of the last look, counted from the first; 0 at the first
  /// look. The paper stops a layer once the directions of all ranks that it gets agree.
  /// math    |cosine of two directions of one number| >= threshold (0.99 in the paper)
  /// errors  as input_statistics::top; shape_error if k is another than before; numeric_error for unusable inputs
  template <class Svd>
  index_t look(B& be, Svd const& svd, input_statistics<B, T> const& inputs, index_t k, double threshold = 0.99) {
    char const* const where = "eva_convergence::look";
    if (before_.cols() > 0) require_shape(before_.view(), inputs.features(), k, where, "last look");
    auto found = inputs.top(be, svd, k);
    if (found.flags[0] != svd_usable)
      raise<numeric_error>(where, "inputs", describe_flags(found.flags[0]), "finite and not all the same");
    explained_.clear();
    for (T const s : read_all(be, found[0].s))
      explained_.push_back(static_cast<double>(s) * static_cast<double>(s) / found.energy[0]);
    index_t settled = 0;
    if (before_.cols() > 0) {
      scratch<B> temporary(be);
      auto const cosines = temporary.template matrix<double>(k, 1);
      column_dots(be, before_.view(), found[0].v, cosines);
      auto const host = read_all(be, cosines);
      while (settled < k && std::fabs(host[static_cast<std::size_t>(settled)]) >= threshold) ++settled;
    } else {
      before_ = matrix<T, B>(be, inputs.features(), k);
    }
    be.copy(found[0].v, before_.view());
    return settled;
  }
  /// The share of the inputs' variance that each direction of the last look explains, descending.
  std::vector<double> const& explained() const { return explained_; }
};

}  // namespace loraga

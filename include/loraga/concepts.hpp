#pragma once
#include <concepts>
#include <limits>
#include <loraga/core/factors.hpp>
#include <loraga/core/workspace.hpp>
#include <memory>
#include <span>
#include <string>
#include <tuple>

// The contract. Whoever adds a backend or a policy reads this page; docs/contract.md says the same in prose and shows
// the smallest class that conforms to each concept.
//
// Letters: W out x in, X in x tokens, Y out x tokens, A r x in, B out x r, G out x in; derivatives are d + letter.

namespace loraga {

namespace detail {  // stand-ins with which the concepts below are asked
struct element_functor {
  LORAGA_HD void operator()(index_t, index_t) const {}
};
struct reduction {
  using value_type = double;
  LORAGA_HD static double identity() { return 0; }
  LORAGA_HD double map(index_t, index_t) const { return 0; }
  LORAGA_HD static double combine(double a, double) { return a; }
  LORAGA_HD void finish(index_t, double) const {}
};
template <class B>
struct batch_task {
  void operator()(B&, index_t, index_t) const {}
};
}  // namespace detail

/// Owns memory and runs the few primitives that every algorithm is written in. It is the first argument of every call.
/// One object serves one thread; on a GPU, one stream.
template <class B>
concept Backend = requires(B& be, index_t n, matrix_view<float, typename B::space> m,
                           const_view<float, typename B::space> c, slab_view<float, typename B::space> slab,
                           view_list<float const, typename B::space> list, slab_view<double, typename B::space> gram,
                           slab_view<int, typename B::space> flags, matrix_view<float, host_space> h,
                           const_view<float, host_space> ch) {
  // n elements, uninitialised, as an owning pointer with get()
  { be.template allocate<float>(n).get() } -> std::same_as<float*>;
  // the same in host memory that copies fast (pinned on a GPU)
  { be.template allocate_host<float>(n).get() } -> std::same_as<float*>;
  // dst = src, same shape and type, between any two spaces
  { be.copy(c, m) } -> std::same_as<void>;
  { be.copy(c, h) } -> std::same_as<void>;
  { be.copy(ch, m) } -> std::same_as<void>;
  // f(i, j) once for every element of a rows x cols grid, in any order
  { be.for_each(n, n, detail::element_functor{}) } -> std::same_as<void>;
  // per column j: finish(j, combine over i of map(i, j)); the order of combination depends on the shape alone
  { be.reduce_columns(n, n, detail::reduction{}) } -> std::same_as<void>;
  // c = alpha*a*b + beta*c, accumulated in compute_t of c; beta = 0 never reads c
  { be.gemm(1.0, c, c, 0.0, m) } -> std::same_as<void>;
  // the same for every member of a batch
  { be.gemm_batched(1.0, list, slab, 0.0, slab) } -> std::same_as<void>;
  // s = yT*y in double
  { be.gram_batched(slab, gram) } -> std::same_as<void>;
  // s = RT*R becomes R^-1 (upper triangular); flags |= svd_ill_conditioned and s = I where a pivot is not above
  // `relative` times its diagonal entry and `absolute`
  { be.cholesky_inverse_batched(gram, 1e-15, 0.0, flags) } -> std::same_as<void>;
  // symmetric s: all eigenvalues, descending, and its leading n eigenvectors in its first n columns;
  // flags |= svd_not_converged
  { be.eigh_batched(gram, n, gram, flags) } -> std::same_as<void>;
  // task(backend, first, n) for chunks of a batch: all at once on a GPU, one by one and in parallel on a CPU
  { be.for_each_chunk(n, detail::batch_task<B>{}) } -> std::same_as<void>;
  // while the returned object lives, products round no operand below its type, whatever the backend is set to
  be.full_precision();
  // the scratch memory behind scratch<B>
  be.memory().release(be, be.memory().position());
  { be.synchronize() } -> std::same_as<void>;
};

namespace detail {
// What a backend may have, and what it is where it has none.

/// The same list, with its addresses where the backend's products look for them (see view_list::addresses), until
/// `temporary` ends. For lists that several products take.
template <Backend B, class L>
L prepared(B& be, scratch<B>& temporary, L const& list) {
  if constexpr (requires { be.prepared(temporary, list); }) return be.prepared(temporary, list);
  else return list;
}
/// for_each_chunk for work that takes bytes_each of scratch for every member: a GPU's chunks keep to a budget.
template <Backend B, class F>
void for_each_chunk(B& be, index_t count, index_t bytes_each, F const& task) {
  if constexpr (requires { be.for_each_chunk(count, bytes_each, task); }) be.for_each_chunk(count, bytes_each, task);
  else be.for_each_chunk(count, task);
}
/// task(backend, i) for every i < count, where no task touches what another one writes. On a GPU what tasks do alike
/// becomes one launch (cuda::in_step).
template <Backend B, class F>
void in_step(B& be, index_t count, F const& task) {
  if constexpr (requires { be.in_step(count, task); }) be.in_step(count, task);
  else
    for (index_t i = 0; i < count; ++i) task(be, i);
}
/// While the returned object lives, products may round operands as far as a power iteration allows: what it finds is
/// made orthonormal and measured with full precision afterwards.
template <Backend B>
auto pass_precision(B& be) {
  if constexpr (requires { be.pass_precision(); }) return be.pass_precision();
  else return 0;
}
/// Whether the host runs ahead of the device, so that a look at a result costs more than work that may be for nothing,
/// and columns of a block cost next to nothing beside a pass over the matrix.
template <class B>
inline constexpr bool runs_ahead = [] {
  if constexpr (requires { B::runs_ahead; }) return B::runs_ahead;
  else return false;
}();
/// Whether all work of a class is the backend's primitives, so that it may be in_step with its like.
template <class X>
inline constexpr bool goes_in_step = [] {
  if constexpr (requires { X::in_steps; }) return X::in_steps;
  else return false;
}();
}  // namespace detail

/// A backend beside which another one can work, on another host thread: background work needs one. Where calls are
/// finished when they return, only `fork` has something to do.
template <class B>
concept ForkableBackend = Backend<B> &&
    requires(B& be, B const& cbe, typename B::event& e, typename B::event const& ce) {
  { cbe.fork() } -> std::same_as<std::unique_ptr<B>>;  // a new one for the same memory
  { cbe.attach_thread() } -> std::same_as<void>;       // to be called on the thread that will use it
  { be.record(e) } -> std::same_as<void>;              // e is reached when what was asked for so far is done
  { be.wait(ce) } -> std::same_as<void>;               // what is asked for next starts after e
};

/// Finds leading singular triplets of a batch of equal-shaped matrices. It waits for the backend once, to read the
/// flags. The answer depends on the matrix and the method's fields only. The entry of largest magnitude of each u is
/// positive; on a tie, the first such entry.
template <class S, class B>
concept SvdMethod = Backend<B> &&
    requires(S const& svd, B& be, view_list<float const, typename B::space> a, index_t k) {
  { svd.top(be, a, k) } -> std::same_as<svd_result<float, B>>;
};

namespace detail {
struct probe_svd {
  template <Backend B, class T>
  svd_result<compute_t<std::remove_const_t<T>>, B> top(B&, view_list<T, typename B::space>, index_t) const;
};
}  // namespace detail

/// Estimates the mean weight gradient of one layer from micro-batches, and gives its leading triplets.
/// After NaN or infinity every answer has a flag that says so.
template <class G, class B>
concept GradientAccumulator = Backend<B> &&
    requires(G& g, G const& cg, B& be, const_view<float, typename B::space> v, index_t k,
             std::span<G const* const> batch, detail::probe_svd svd) {
  { cg.rows() } -> std::same_as<index_t>;
  { cg.cols() } -> std::same_as<index_t>;
  { cg.count() } -> std::same_as<index_t>;               // micro-batches seen
  { cg.weight() } -> std::same_as<double>;               // sum of their weights
  { g.add(be, v, 1.0) } -> std::same_as<void>;           // dW, weight
  { g.add_outer(be, v, v, 1.0) } -> std::same_as<void>;  // dY, X, weight: dW = dY*XT
  { g.merge(be, cg) } -> std::same_as<void>;             // what another one saw
  { g.reset(be) } -> std::same_as<void>;
  // k triplets of every member's mean; members have one shape and are not changed
  { G::top(be, svd, batch, k) } -> std::same_as<svd_result<typename G::value_type, B>>;
};

/// An accumulator that also writes down the matrix whose triplets `top` gives: GoRA needs one. After NaN or infinity
/// that matrix is not finite. It may be used while the accumulator goes on.
template <class G, class B>
concept ReadableGradient = GradientAccumulator<G, B> &&
    requires(G const& cg, B& be, matrix_view<typename G::value_type, typename B::space> to) {
  { cg.estimate(be, to) } -> std::same_as<void>;
};

/// Gives s in y = W*x + s*B*A*x. alpha = 0 is allowed: the adapter then does nothing.
/// errors  value_error if alpha or value is not finite
template <class S>
concept Scaling = requires(S const& s, index_t n) {
  { s.scale(n, n, n) } -> std::same_as<double>;  // (out, in, rank)
};

/// Gives the factor on the learning rate at step t = 0, 1, ... Device code calls it.
template <class S>
concept Schedule = requires(S const& s, index_t t) {
  { s.factor(t) } -> std::same_as<double>;
  { s.check() } -> std::same_as<void>;
};

/// What an initialiser knows of a layer before it sees data.
struct layer_facts {
  index_t out = 0, in = 0, rank = 0;
  double scale = 1;          ///< the adapter's s
  bool has_weight = false;   ///< a view of W is at hand
  std::uint64_t number = 0;  ///< separates random streams: the position in a range, or a lone adapter's own seed
};

/// What A and B make of a model before any step.
enum class start_kind {
  at_zero,  ///< B*A = 0: the model starts unchanged, whatever the anchor
  offset,   ///< B*A is not 0, and an anchor keeps the model unchanged
  ahead     ///< the model is meant to start changed by s*B*A
};

/// One thing that an initialiser needs, as a value: `gradient_triplets{16}`. L is a type of `layer`, which brings it.
///   met<B, L, Svd>                 whether the types fit (a bool)
///   explain<B, L, Svd>()           static_asserts that say in a sentence what is missing
///   check(layer, where, sampled)   throws before any work; accumulators may be empty where `sampled` is false
///   measure(be, layers, svd)       measures layers of one shape and rank: m[i] goes to the initialiser, m.flags[i]
///                                  are its svd_flags, final once m[i] was asked for
template <class N, class B, class L, class Svd>
concept Need = requires(N const& need, B& be, L const& layer, std::span<L const* const> layers, Svd const& svd) {
  { N::template met<B, L, Svd> } -> std::convertible_to<bool>;
  N::template explain<B, L, Svd>();
  { need.check(layer, std::string(), true) } -> std::same_as<void>;
};

/// Fills A (r x in) and B (out x r).
///   starts                  a start_kind
///   needs(facts)            one need, or a std::tuple of them; left out where there are none
///   check(facts)            throws before any work; left out where nothing can be wrong
///   make(be, facts, value of each need ..., A, B)   may throw numeric_error for data that it cannot use
template <class I>
concept Initialiser = requires {
  { I::starts } -> std::convertible_to<start_kind>;
};

/// Keeps the model unchanged at the start where B0*A0 is not 0.
///   changes_weight                  whether W must be given, mutable, and no other layer's
///   apply(be, adapter, W, A0, B0)   called before the adapter takes A0, B0; may fail while nothing has changed
template <class X>
concept Anchor = requires {
  { X::changes_weight } -> std::convertible_to<bool>;
};

/// A number of triplets that asks for all there are, min(out, in).
inline constexpr index_t all_triplets = std::numeric_limits<index_t>::max();

/// Which part of an adapter a parameter is; LoRA+ gives B a rate of its own.
enum class parameter_kind {
  factor_a,  ///< A
  factor_b,  ///< B
  other      ///< what lies between or behind them: a magnitude, E, R
};

/// One trainable matrix, as an optimiser sees it.
template <class T, class Space>
struct parameter {
  char const* name;             ///< as files call it, such as lora_A
  parameter_kind kind;          ///< which part of the adapter
  matrix_view<T, Space> value;  ///< what passes use
  /// What backward adds to, and the float copy that an optimiser updates where values are 16 bit, else empty.
  matrix_view<compute_t<T>, Space> gradient, master = {};
  std::shared_ptr<bool const> alive = {};  ///< false once the owner is gone: an optimiser then refuses to step
};

/// What an adapter's file record holds beside A and B.
enum class record_extra {
  none,      ///< A and B alone
  e,         ///< AdaLoRA's: B*diag(E)*A
  magnitude  ///< DoRA's: the length of every row of W + s*B*A
};

/// A trainable low-rank change of one layer's W, used around the caller's own base product.
template <class A, class B>
concept Adapter = Backend<B> &&
    requires(A& ad, A const& cad, B& be, const_view<float, typename B::space> c,
             matrix_view<float, typename B::space> m, matrix_view<typename A::value_type, typename B::space> w,
             const_view<typename A::value_type, typename B::space> f, typename A::tape& t) {
  { cad.out() } -> std::same_as<index_t>;
  { cad.in() } -> std::same_as<index_t>;
  { cad.rank() } -> std::same_as<index_t>;
  { cad.scale() } -> std::same_as<double>;
  { ad.a() } -> std::same_as<matrix_view<typename A::value_type, typename B::space>>;
  { ad.b() } -> std::same_as<matrix_view<typename A::value_type, typename B::space>>;
  { ad.parameters()[0] } -> std::convertible_to<parameter<typename A::value_type, typename B::space>>;
  { ad.forward(be, c, c, m, t) } -> std::same_as<void>;  // W, X, Y += adapter(X)
  // W, X, dY, tape, beta, dX = beta*dX + adapter's share; returns the dY the base's own backward shall use
  { ad.backward(be, c, c, c, t, 0.0, m) } -> ViewIn<typename B::space>;
  { cad.check_start() } -> std::same_as<void>;  // throws if a new start would lose something
  // a new start a, b, in this order: one of the first two, as the anchor says, then the last, which cannot fail
  { ad.subtract_start(be, w, f, f) } -> std::same_as<void>;  // W -= s*b*a
  { ad.freeze_start(be, f, f) } -> std::same_as<void>;       // keep a, b to subtract their product in forward
  { ad.start(be, f, f) } -> std::same_as<void>;              // A, B become a, b; derived state follows
  { ad.merge(be, w) } -> std::same_as<void>;
  { ad.unmerge(be, w) } -> std::same_as<void>;
};

}  // namespace loraga

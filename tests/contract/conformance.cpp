// Every method x backend pair conforms to the contract; classes that lack something do not.
#include "../support/backend.hpp"
#include "../support/catch.hpp"

#ifndef LORAGA_TEST_CUDA
#include <loraga/svd/eigen.hpp>
#endif

using namespace loraga;
using test::backend;

static_assert(Backend<backend>);
static_assert(ForkableBackend<backend>);
static_assert(!Backend<int>);

static_assert(SvdMethod<gram, backend> && SvdMethod<subspace, backend> && SvdMethod<block_krylov, backend> &&
              SvdMethod<automatic_svd, backend>);
#ifndef LORAGA_TEST_CUDA
static_assert(SvdMethod<eigen_svd, backend>);
#endif
static_assert(!SvdMethod<lora_ga_init, backend> && !SvdMethod<gram, int>);

static_assert(GradientAccumulator<dense_gradient<backend>, backend> &&
              GradientAccumulator<dense_gradient<backend, double>, backend>);
static_assert(ReadableGradient<projected_gradient<backend>, backend>);
static_assert(GradientAccumulator<incremental_gradient<backend>, backend> &&
              GradientAccumulator<incremental_gradient<backend, double>, backend>);
static_assert(GradientAccumulator<offloaded_gradient<backend>, backend> &&
              GradientAccumulator<background_gradient<incremental_gradient<backend>, backend>, backend>);
static_assert(!std::is_copy_constructible_v<offloaded_gradient<backend>> &&
              !std::is_copy_constructible_v<background_gradient<incremental_gradient<backend>, backend>>);
static_assert(!GradientAccumulator<matrix<float, backend>, backend>);
static_assert(ReadableGradient<dense_gradient<backend>, backend> &&
              ReadableGradient<background_gradient<offloaded_gradient<backend>, backend>, backend> &&
              !ReadableGradient<matrix<float, backend>, backend>);

static_assert(Scaling<classic_scaling> && Scaling<rank_stable_scaling> && Scaling<constant_scaling> &&
              Scaling<adalora_scaling>);
static_assert(!Scaling<double>);

static_assert(Initialiser<kaiming_init> && Initialiser<gaussian_init> && Initialiser<orthogonal_init> &&
              Initialiser<lora_ga_init> && Initialiser<pissa_init> && Initialiser<milora_init> &&
              Initialiser<olora_init> && Initialiser<corda_init> && Initialiser<eva_init> &&
              Initialiser<lora_one_init> && Initialiser<gaussian_pair_init> && Initialiser<embedding_init> &&
              Initialiser<lora_sb_init> && Initialiser<gora_init>);
static_assert(Adapter<any_adapter<float, backend>, backend> && Adapter<any_adapter<bf16, backend>, backend>);
static_assert(Anchor<in_place_anchor> && Anchor<frozen_pair_anchor> && Anchor<no_anchor>);
static_assert(!Initialiser<gram>);

static_assert(Adapter<lora<float, backend>, backend> && Adapter<lora<double, backend>, backend> &&
              Adapter<lora<bf16, backend>, backend> && Adapter<lora<fp16, backend>, backend>);
static_assert(Adapter<dora<float, backend>, backend> && Adapter<dora<bf16, backend>, backend> &&
              Adapter<adalora<float, backend>, backend> && Adapter<adalora<bf16, backend>, backend>);
static_assert(!Adapter<matrix<float, backend>, backend>);

static_assert(Schedule<constant_schedule> && Schedule<cosine_schedule> && !Schedule<int>);

// Views of one space are not views of the other.
static_assert(ViewIn<matrix_view<float, host_space>, host_space> &&
              !ViewIn<matrix_view<float, host_space>, device_space>);
static_assert(!std::is_convertible_v<const_view<float, host_space>, matrix_view<float, host_space>>);
static_assert(!std::is_convertible_v<matrix_view<float, host_space>, matrix_view<float, device_space>>);

TEST_CASE("the contract was checked when this file was compiled", "[contract]") { SUCCEED(); }

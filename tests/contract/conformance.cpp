// Every method x backend pair conforms to the contract; classes that lack something do not.
#include <loraga/svd/eigen.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

static_assert(Backend<cpu>);
static_assert(!Backend<int>);

static_assert(SvdMethod<gram, cpu> && SvdMethod<subspace, cpu> && SvdMethod<block_krylov, cpu> &&
              SvdMethod<automatic_svd, cpu> && SvdMethod<eigen_svd, cpu>);
static_assert(!SvdMethod<lora_ga_init, cpu> && !SvdMethod<gram, int>);

static_assert(GradientAccumulator<dense_gradient<cpu>, cpu> && GradientAccumulator<dense_gradient<cpu, double>, cpu>);
static_assert(GradientAccumulator<incremental_gradient<cpu>, cpu> &&
              GradientAccumulator<incremental_gradient<cpu, double>, cpu>);
static_assert(!GradientAccumulator<matrix<float, cpu>, cpu>);

static_assert(Scaling<classic_scaling> && Scaling<rank_stable_scaling> && Scaling<constant_scaling>);
static_assert(!Scaling<double>);

static_assert(Initialiser<kaiming_init, cpu> && Initialiser<gaussian_init, cpu> && Initialiser<orthogonal_init, cpu> &&
              Initialiser<lora_ga_init, cpu> && Initialiser<pissa_init, cpu>);
static_assert(!Initialiser<gram, cpu>);

static_assert(Adapter<lora<float, cpu>, cpu> && Adapter<lora<double, cpu>, cpu> && Adapter<lora<bf16, cpu>, cpu> &&
              Adapter<lora<half, cpu>, cpu>);
static_assert(!Adapter<matrix<float, cpu>, cpu>);

static_assert(Schedule<constant_schedule> && Schedule<cosine_schedule> && !Schedule<int>);

// Views of one space are not views of the other.
static_assert(ViewIn<matrix_view<float, host_space>, host_space> &&
              !ViewIn<matrix_view<float, host_space>, device_space>);
static_assert(!std::is_convertible_v<const_view<float, host_space>, matrix_view<float, host_space>>);
static_assert(!std::is_convertible_v<matrix_view<float, host_space>, matrix_view<float, device_space>>);

TEST_CASE("the contract was checked when this file was compiled", "[contract]") { SUCCEED(); }

#pragma once
#include <loraga/distributed/sharded_start.hpp>

namespace loraga {

/// Completes the gradients of layers whose W is cut: those of A where W is cut by rows, and of B where by columns,
/// become the sums of all ranks'. Call it after backward and before the optimiser, in every step; equal gradients keep
/// the factor that is not cut the same on every rank. Ranks that clip need the norm of the whole: its squares are the
/// sum over ranks of the cut factors' and once those of the others.
///   ... backward ...; sum_replicated(be, comm, layers); optimiser.step(be);
/// math    by rows dA = sum_r s*B_rT*dY_r*XT; by columns dB = sum_r s*dY*(A_r*X_r)T
/// cost    one all_reduce of r*in or r*out numbers per layer, all layers in one message of up to bucket_options::bytes
/// memory  one message
/// errors  rank_error, the same on every rank, if one failed or gives other layers; gradients are as they were then
template <Backend B, Communicator<B> C, ContiguousRange R>
void sum_replicated(B& be, C& comm, R const& layers, bucket_options options = {}) {
  using A = typename detail::sharded_parts<element_of<R const>>::adapter;
  using view = matrix_view<typename A::compute, typename B::space>;
  auto const all = elements_of(layers);
  std::vector<view> gradients;
  detail::agree_on(be, comm, "sum_replicated", [&] {
    std::string lines = detail::bucket_line(options);
    for (std::size_t i = 0; i < all.size(); ++i) {
      detail::check_sharded(all[i], "sum_replicated(" + all[i].label(i) + ")");
      lines += detail::shard_line(all[i].label(i), all[i].part, *all[i].adapter) + "\n";
      gradients.push_back(all[i].adapter->parameters()[all[i].part.by_rows() ? 0 : 1].gradient);
    }
    return std::pair(lines, std::string());
  });
  detail::move_data(comm, [&] { all_reduce_views(be, comm, std::span<view const>(gradients), options); });
}

}  // namespace loraga

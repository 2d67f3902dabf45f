// shows save_rank_checkpoint, load_rank_checkpoint
/// A job of many ranks in the middle of its estimate, stopped and gone on with by another number of ranks: the parts that
/// more ranks wrote join in fewer.
template <class C>
index_t save_and_resume_ranks(cpu& be, C& comm, model_gradient<cpu>& G, std::vector<layer_size> const& layers,
                              std::filesystem::path const& file) {
  index_t step = 10;
  auto const same_on_all = [&](auto& c) { c("step", step); };
  auto const own = [&](auto& c) { c("gradients", G); };
  save_rank_checkpoint(be, comm, file, same_on_all, own);
  load_rank_checkpoint(be, comm, file, same_on_all, own, [&](auto const& read) {
    model_gradient<cpu> other(be, layers, {.rank = 2});
    read([&](auto& c) { c("gradients", other); });
    for (index_t i = 0; i < G.size(); ++i) G[i].merge(be, other[i]);
  });
  return step;
}

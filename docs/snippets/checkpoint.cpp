// shows save_checkpoint, load_checkpoint, checkpoint_options
/// A training's state in one file, from which it goes on bit for bit.
inline index_t save_and_resume(cpu& be, lora<float, cpu>& adapter, adamw<float, cpu>& optimiser,
                               std::filesystem::path const& file) {
  index_t step = 100;
  auto const everything = [&](auto& c) { c("adapter", adapter), c("optimiser", optimiser), c("step", step); };
  save_checkpoint(be, file, everything);
  step = 0;
  load_checkpoint(be, file, everything);  // into objects built as before
  return step;
}

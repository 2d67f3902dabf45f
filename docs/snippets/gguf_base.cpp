// shows gguf_file, gguf_tensor, read_rows, base_model, base_weight
/// Rows of a quantised model's weight as floats, and the same weight under its Hugging Face name, in that model's
/// order.
inline double read_quantised(std::filesystem::path const& path) {
  gguf_file const file(path);
  auto const q = file["blk.0.attn_q.weight"];
  std::vector<float> some(static_cast<std::size_t>(2 * q.cols()));
  read_rows(q, 0, row_major(some.data(), 2, q.cols()));

  base_model const base(path);  // or a folder with safetensors
  auto const w = base["model.layers.0.self_attn.q_proj.weight"];
  std::vector<float> all = w.values();
  return file.number<double>("llama.attention.head_count") + static_cast<double>(all[0]) + static_cast<double>(some[0]);
}

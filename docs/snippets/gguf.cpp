// shows save_gguf_adapter, gguf_options, gguf_tensor_name, widened
/// An adapter for llama.cpp: `llama-cli --lora FILE`.
inline void for_llama_cpp(std::filesystem::path const& file, std::vector<adapter_record> const& records) {
  save_gguf_adapter(file, widened(records), {.architecture = "llama", .heads = 4, .kv_heads = 4});
}

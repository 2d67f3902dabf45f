// shows merge_peft, weighted_peft, peft_merge_options
/// A PEFT adapter merged into a folder of a Hugging Face model: names, ties and config.json are looked after.
inline std::vector<std::string> merge_folder(cpu& be, std::filesystem::path const& base,
                                             std::filesystem::path const& to, std::filesystem::path const& adapter) {
  std::vector<weighted_peft> adapters{{.adapter = load_peft(adapter, {}, whole_layers::take), .weight = 1}};
  return merge_peft(be, safetensors_model(base), to, adapters);  // what it decided, as sentences to show
}

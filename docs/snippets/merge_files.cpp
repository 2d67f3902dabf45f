// shows merge_into_model, unmerge_from_model, write_changed_model, safetensors_model, merge_options
/// A base's weights with adapters merged in, as a new file; one weight is in memory at a time.
inline void merge_file(cpu& be, std::filesystem::path const& base, std::filesystem::path const& to,
                       std::vector<adapter_record> const& adapter) {
  safetensors_model const model(base);  // a file, an index, or a folder
  merge_into_model(be, model, to, adapter);
}

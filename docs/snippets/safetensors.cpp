// shows safetensors_writer, safetensors_file, tensor_spec, stored_tensor, overwrite, dtype, read_matrix
/// A safetensors file of one matrix, written and read.
inline float write_and_read(std::filesystem::path const& path, matrix_view<float, host_space> w) {
  safetensors_writer writer(path, {{"w", dtype::F32, {w.rows, w.cols}}}, {{"made", "here"}}, overwrite::yes);
  writer.write("w", w);
  writer.commit();  // now the file is there, whole

  safetensors_file const file(path);  // mapped: nothing is read before it is looked at
  stored_tensor const tensor = file["w"];
  return tensor.view<float>()(0, 0);
}

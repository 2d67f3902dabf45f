// shows save_peft, load_peft, take_record, put_record, adapter_record, peft_options, peft_base, peft_adapter
/// An adapter to a folder that Hugging Face PEFT loads, and back.
inline double through_a_folder(cpu& be, lora<float, cpu>& adapter, std::filesystem::path const& folder) {
  std::vector<adapter_record> records{take_record(be, adapter, "encoder.layer.0.attention.self.query")};
  save_peft(folder, records, {.base = peft_base::original, .rank_stable = true, .base_model = "my/base"},
            unchecked_names{});

  peft_adapter const loaded = load_peft(folder);
  adapter_record const& r = loaded.records[0];
  lora<float, cpu> again(be, r.b.rows, r.a.cols, r.rank(), constant_scaling{r.scale});
  put_record(be, r, again);
  return again.scale();
}

// gguf_writer RECORDS NUMBERS OUT ARCHITECTURE HEADS KV_HEADS TYPE
// Writes a GGUF adapter from records that llama_cpp.py left: RECORDS has a line "module scale rank in out rank0" each,
// NUMBERS their A, B and, where rank0 > 0, A0, B0 in float32, row by row.
#include <cstring>
#include <fstream>
#include <iostream>
#include <loraga/io/gguf.hpp>

int main(int argc, char** argv) try {
  if (argc != 8) {
    std::cerr << "usage: gguf_writer RECORDS NUMBERS OUT ARCHITECTURE HEADS KV_HEADS TYPE\n";
    return 2;
  }
  std::ifstream lines(argv[1]), numbers(argv[2], std::ios::binary);
  std::vector<loraga::adapter_record> records;
  std::string module;
  double scale;
  loraga::index_t rank, in, out, rank0;
  while (lines >> module >> scale >> rank >> in >> out >> rank0) {
    loraga::adapter_record r{module, scale, {rank, in}, {out, rank}, {rank0, in}, {out, rank0}};
    for (auto* m : {&r.a, &r.b, &r.start_a, &r.start_b})
      numbers.read(reinterpret_cast<char*>(m->values.data()), static_cast<std::streamsize>(4 * m->values.size()));
    if (!numbers) throw std::runtime_error("too few numbers for " + module);
    records.push_back(loraga::widened(r));
  }
  loraga::save_gguf_adapter(argv[3], records,
                            {.architecture = argv[4],
                             .heads = std::stol(argv[5]),
                             .kv_heads = std::stol(argv[6]),
                             .name = "loraga interop",
                             .type = loraga::parse_dtype(argv[7], "TYPE"),
                             .may_replace = loraga::overwrite::yes});
} catch (std::exception const& e) {
  std::cerr << e.what() << '\n';
  return 1;
}

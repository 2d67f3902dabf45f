// decoder encode MODEL TEXTS: the tokens of texts that are separated by NUL, one text a line.
// decoder logits MODEL OUT ID...: logits after each of these tokens, as float32 in OUT, vocabulary numbers for each.
#include <fstream>
#include <iostream>
#include <iterator>
#include <loraga/cpu.hpp>

#include "../../examples/data/byte_pairs.hpp"
#include "../../examples/model/language_model.hpp"

using loraga::index_t;

void encode(char const* model, char const* path) {
  data::byte_pairs const tokenizer(data::read_byte_pairs(loraga::gguf_file(model)));
  std::ifstream file(path, std::ios::binary);
  std::string const all{std::istreambuf_iterator<char>(file), {}};
  for (std::size_t at = 0; at < all.size();) {
    auto const end = all.find('\0', at);
    for (index_t const id : tokenizer.encode(std::string_view(all).substr(at, end - at))) std::cout << id << ' ';
    std::cout << '\n';
    at = end + 1;
  }
}

void logits(char const* model, char const* out, std::vector<index_t> ids) {
  loraga::cpu be;
  loraga::base_model const base(model);
  auto const shape = model::read_decoder_shape(base);
  model::decoder<loraga::cpu> m(be, base, shape);
  auto const count = static_cast<index_t>(ids.size());
  ids.push_back(0);  // nothing follows the last one
  data::token_item const item{ids, 1};
  data::token_buffer<loraga::cpu> buffer;
  loraga::matrix<float, loraga::cpu> to(be, shape.vocabulary, count);
  m.logits(be, buffer.pick(be, {&item}), to.view());
  std::ofstream(out, std::ios::binary)
      .write(reinterpret_cast<char const*>(to.view().data), static_cast<std::streamsize>(4 * shape.vocabulary * count));
}

int main(int argc, char** argv) try {
  std::string const what = argc > 1 ? argv[1] : "";
  if (what == "encode" && argc == 4) {
    encode(argv[2], argv[3]);
  } else if (what == "logits" && argc > 4) {
    std::vector<index_t> ids;
    for (int i = 4; i < argc; ++i) ids.push_back(std::atoll(argv[i]));
    logits(argv[2], argv[3], ids);
  } else {
    std::cerr << "usage: decoder encode MODEL TEXTS | logits MODEL OUT ID...\n";
    return 2;
  }
} catch (std::exception const& e) {
  std::cerr << e.what() << '\n';
  return 1;
}

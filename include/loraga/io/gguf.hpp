#pragma once
#include <cfloat>
#include <deque>
#include <loraga/io/file.hpp>
#include <loraga/io/gguf_names.hpp>
#include <loraga/io/record_algebra.hpp>
#include <map>

// LoRA adapters as llama.cpp loads them. Its own converter knows one lora_alpha for all layers, so rank-stable scales
// and patterns are lost. Written here, every layer counts as it was trained.

namespace loraga {

/// What llama.cpp has to know about the base model.
struct gguf_options {
  std::string architecture = {};    ///< its general.architecture: llama (also Mistral), qwen2, qwen3, gpt2, bert or t5
  index_t heads = 0, kv_heads = 0;  ///< num_attention_heads, num_key_value_heads; llama's q_proj and k_proj need them
  std::string name = {};            ///< general.name of the adapter; left out if empty
  dtype type = dtype::F32;          ///< of the matrices: F32, F16 or BF16
  overwrite may_replace = overwrite::no;
};

namespace format {
/// Numbers and texts in GGUF's encoding.
struct gguf_bytes {
  std::string bytes;

  template <class T>
  void number(T x) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
      bytes += static_cast<char>(static_cast<std::uint64_t>(x) >> 8 * i & 0xff);
  }
  void text(std::string_view s) {
    number<std::uint64_t>(s.size());
    bytes += s;
  }
  void entry(std::string_view key, std::string_view value) {
    text(key);
    number<std::uint32_t>(8);  // a string
    text(value);
  }
  void entry(std::string_view key, float value) {
    text(key);
    number<std::uint32_t>(6);  // a float32
    number(bits_as<std::uint32_t>(value));
  }
  void align() { bytes.append((32 - bytes.size() % 32) % 32, '\0'); }  // the default of general.alignment
};

/// How GGUF counts types.  errors  value_error
inline std::uint32_t gguf_adapter_type(dtype t) {
  if (t != dtype::F32 && t != dtype::F16 && t != dtype::BF16)
    raise<value_error>("save_gguf_adapter", "type", std::string(dtype_name(t)), "F32, F16 or BF16");
  return t == dtype::F32 ? 0 : t == dtype::F16 ? 1 : 30;
}

/// A matrix's bytes, each number times `factor` and rounded to the type.
inline std::string gguf_values(record_matrix const& m, double factor, dtype type, std::string_view where) {
  std::string bytes;
  with_float_type(type, where, "type", [&]<class T>(T) {
    bytes.reserve(m.values.size() * sizeof(T));
    for (float const x : m.values) {
      T const y(static_cast<float>(factor * static_cast<double>(x)));
      if (!is_finite(as_double(y)))
        raise<numeric_error>(where, "a number", std::to_string(factor * static_cast<double>(x)),
                             "within " + std::string(dtype_name(type)));
      bytes.append(reinterpret_cast<char const*>(&y), sizeof(T));
    }
  });
  return bytes;
}

/// Rows of a llama's q or k in llama.cpp's order.
inline record_matrix gguf_rotary_rows(record_matrix const& b, index_t heads) {
  record_matrix to(b.rows, b.cols);
  for (index_t row = 0; row < b.rows; ++row) {
    auto const from = b.values.begin() + row * b.cols;
    std::copy(from, from + b.cols, to.values.begin() + gguf_rotary_row(row, b.rows / heads) * b.cols);
  }
  return to;
}
}  // namespace format

/// Writes adapters as one GGUF file for llama.cpp (`--lora FILE`). Tensors are sorted by name, so the same records give
/// the same bytes. Modules are called as in the Hugging Face model. AdaLoRA's E is folded into B.
/// math    llama.cpp adds (alpha/r)*B'*A with one alpha for all: alpha = max|s*r| and B' = B*s*r/alpha, so that B stays
///         as it is where all layers share s*r
/// errors  file_error (EEXIST unless overwrite::yes); check_record's; numeric_error for numbers outside the type;
///         state_error for an anchored record: the file adds to the base it is loaded with, so pass widened(record)
///         where that is the original base, or merge start_of(record) into the base; state_error for DoRA's, which
///         llama.cpp does not have; value_error for no or double modules, those of gguf_tensor_name, layers that are
///         not linear, and heads that are missing or do not fit
inline void save_gguf_adapter(std::filesystem::path const& path, std::span<adapter_record const> records,
                              gguf_options const& options) {
  auto const type = format::gguf_adapter_type(options.type);
  auto const label = [](adapter_record const& r) { return "save_gguf_adapter(" + r.module + ")"; };
  std::map<std::string, adapter_record const*> sorted;
  std::deque<adapter_record> without;  // E
  double largest = 0;
  index_t head_size = 0;  // one for q and k: a wrong number of heads would give wrong answers, and no error
  auto const heads_of = [&](std::string const& tensor) -> index_t const* {
    bool const q = tensor.find(".attn_q.") != std::string::npos, k = tensor.find(".attn_k.") != std::string::npos;
    return options.architecture != "llama" || !(q || k) ? nullptr : q ? &options.heads : &options.kv_heads;
  };
  for (auto const& r : records) {
    check_record(r, "save_gguf_adapter");
    if (r.anchored())
      raise<state_error>(label(r), "record", "anchored: it holds A0 and B0", "a plain one; see widened");
    require_no_magnitude(r, label(r));
    if (r.layer.form != layer_form::linear)
      raise<value_error>(label(r), "record", "of " + layer_text(r.layer),
                         "a linear layer: llama.cpp adapts no other; see merge_into_model");
    auto const tensor = gguf_tensor_name(options.architecture, r.module);
    if (!sorted.emplace(tensor, r.has_e() ? &without.emplace_back(without_e(r)) : &r).second)
      raise<value_error>(label(r), "module", tensor + ", twice", "each once");
    largest = std::max(largest, std::abs(r.scale) * static_cast<double>(r.rank()));
    if (auto const heads = heads_of(tensor)) {
      require_value(*heads >= 1 && *heads <= r.b.rows, static_cast<double>(*heads), label(r), "heads or kv_heads",
                    "the base model's");
      if (r.b.rows % (2 * *heads) != 0 || (head_size != 0 && r.b.rows / *heads != head_size))
        raise<value_error>(label(r), "heads or kv_heads",
                           std::to_string(*heads) + " for " + std::to_string(r.b.rows) + " rows",
                           "heads of one even size");
      head_size = r.b.rows / *heads;
    }
  }
  if (sorted.empty()) raise<value_error>("save_gguf_adapter", "records", "empty", "one record at least");
  // llama.cpp takes an alpha of 0 for a scale of 1.
  float const alpha = largest >= FLT_MIN && largest <= FLT_MAX ? static_cast<float>(largest) : 1;

  format::gguf_bytes head;
  head.bytes = "GGUF";
  head.number<std::uint32_t>(3);
  head.number<std::uint64_t>(2 * sorted.size());
  head.number<std::uint64_t>(options.name.empty() ? 4 : 5);
  head.entry("general.architecture", options.architecture);
  head.entry("general.type", "adapter");
  if (!options.name.empty()) head.entry("general.name", options.name);
  head.entry("adapter.type", "lora");
  head.entry("adapter.lora.alpha", alpha);
  std::uint64_t at = 0;
  auto const describe = [&](std::string const& name, record_matrix const& m) {
    head.text(name);
    head.number<std::uint32_t>(2);
    head.number(m.cols);  // ne: the size that lies together comes first
    head.number(m.rows);
    head.number(type);
    head.number(at);
    at += (m.values.size() * static_cast<std::size_t>(dtype_bits(options.type) / 8) + 31) / 32 * 32;
  };
  for (auto const& [tensor, r] : sorted) {
    describe(tensor + ".lora_a", r->a);
    describe(tensor + ".lora_b", r->b);
  }
  head.align();

  output_file file(path, options.may_replace);
  file.write(0, head.bytes);
  at = head.bytes.size();
  auto const write = [&](std::string const& where, record_matrix const& m, double factor) {
    format::gguf_bytes data{format::gguf_values(m, factor, options.type, where)};
    data.align();
    file.write(at, data.bytes);
    at += data.bytes.size();
  };
  for (auto const& [tensor, r] : sorted) {
    auto const heads = heads_of(tensor);
    write(label(*r), r->a, 1);
    write(label(*r), heads ? format::gguf_rotary_rows(r->b, *heads) : r->b,
          r->scale * static_cast<double>(r->rank()) / static_cast<double>(alpha));
  }
  file.commit();
}

}  // namespace loraga

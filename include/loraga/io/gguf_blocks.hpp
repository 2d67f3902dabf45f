#pragma once
#include <array>
#include <cstddef>
#include <loraga/core/error.hpp>
#include <loraga/core/float16.hpp>
#include <loraga/core/view.hpp>
#include <string_view>

// How ggml packs numbers: a row is blocks of 32 or 256 elements with scales of their own. Block by block they become
// floats, on the host or on a device, the same to the last bit as those of the package gguf. That needs no care with
// the compiler's fused multiply-adds: every product here has at most 23 bits, so it is exact in float, and each sum
// rounds once either way.

namespace loraga {

/// Element types of GGUF's tensors, by ggml's numbers and names.
enum class gguf_type : std::uint32_t {
  /// as ggml calls it
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q8_1 = 9,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  I8 = 24,
  I16 = 25,
  I32 = 26,
  I64 = 27,
  F64 = 28,
  IQ1_M = 29,
  BF16 = 30,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
  NVFP4 = 40,
  Q1_0 = 41
};

/// A type's name, and the elements and bytes of one block. A plain type's block is one element.
struct gguf_type_facts {
  gguf_type type = gguf_type::F32;  ///< which
  std::string_view name = {};       ///< ggml's
  index_t elements = 1;             ///< of a block
  std::size_t bytes = 4;            ///< of a block
};

namespace format {
using enum gguf_type;
inline constexpr std::array<gguf_type_facts, 34> gguf_types{{{F32, "F32", 1, 4},
                                                             {F16, "F16", 1, 2},
                                                             {Q4_0, "Q4_0", 32, 18},
                                                             {Q4_1, "Q4_1", 32, 20},
                                                             {Q5_0, "Q5_0", 32, 22},
                                                             {Q5_1, "Q5_1", 32, 24},
                                                             {Q8_0, "Q8_0", 32, 34},
                                                             {Q8_1, "Q8_1", 32, 40},
                                                             {Q2_K, "Q2_K", 256, 84},
                                                             {Q3_K, "Q3_K", 256, 110},
                                                             {Q4_K, "Q4_K", 256, 144},
                                                             {Q5_K, "Q5_K", 256, 176},
                                                             {Q6_K, "Q6_K", 256, 210},
                                                             {Q8_K, "Q8_K", 256, 292},
                                                             {IQ2_XXS, "IQ2_XXS", 256, 66},
                                                             {IQ2_XS, "IQ2_XS", 256, 74},
                                                             {IQ3_XXS, "IQ3_XXS", 256, 98},
                                                             {IQ1_S, "IQ1_S", 256, 50},
                                                             {IQ4_NL, "IQ4_NL", 32, 18},
                                                             {IQ3_S, "IQ3_S", 256, 110},
                                                             {IQ2_S, "IQ2_S", 256, 82},
                                                             {IQ4_XS, "IQ4_XS", 256, 136},
                                                             {I8, "I8", 1, 1},
                                                             {I16, "I16", 1, 2},
                                                             {I32, "I32", 1, 4},
                                                             {I64, "I64", 1, 8},
                                                             {F64, "F64", 1, 8},
                                                             {IQ1_M, "IQ1_M", 256, 56},
                                                             {BF16, "BF16", 1, 2},
                                                             {TQ1_0, "TQ1_0", 256, 54},
                                                             {TQ2_0, "TQ2_0", 256, 66},
                                                             {MXFP4, "MXFP4", 32, 17},
                                                             {NVFP4, "NVFP4", 64, 36},
                                                             {Q1_0, "Q1_0", 128, 18}}};

/// Byte i of a block, and what stands from there on.
LORAGA_HD inline int byte_at(std::byte const* p, index_t i) { return static_cast<int>(p[i]); }
LORAGA_HD inline int signed_at(std::byte const* p, index_t i) { return static_cast<signed char>(p[i]); }
LORAGA_HD inline std::uint32_t word_at(std::byte const* p, int i, int size) {
  std::uint32_t word = 0;
  for (int j = 0; j < size; ++j) word |= static_cast<std::uint32_t>(p[i + j]) << 8 * j;
  return word;
}
LORAGA_HD inline float half_at(std::byte const* p, int i) {
  fp16 h;
  h.bits = static_cast<std::uint16_t>(word_at(p, i, 2));
  return static_cast<float>(h);
}

/// One element of its own.
template <class T>
struct plain_block {
  static constexpr int elements = 1, bytes = sizeof(T);
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    if constexpr (sizeof(T) == 8) {
      *y = static_cast<float>(bits_as<double>(word_at(p, 0, 4) | static_cast<std::uint64_t>(word_at(p, 4, 4)) << 32));
    } else if constexpr (sizeof(T) == 4) {
      *y = bits_as<float>(word_at(p, 0, 4));
    } else {
      T x;
      x.bits = static_cast<std::uint16_t>(word_at(p, 0, 2));
      *y = static_cast<float>(x);
    }
  }
};

/// Q4_0 to Q5_1: x = d*q + m of 4 or 5 bits, where m is stored, or is -8*d or -16*d. Low halves of the bytes are the
/// first 16 elements, high ones the others; fifth bits lie before them in 32 bits.
template <int Bits, bool Minimum>
struct nibble_block {
  static constexpr int elements = 32, head = (Minimum ? 4 : 2), bytes = head + (Bits == 5 ? 4 : 0) + 16;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    float const d = half_at(p, 0), m = Minimum ? half_at(p, 2) : 0;
    std::uint32_t const fifths = Bits == 5 ? word_at(p, head, 4) : 0;
    auto const* q = p + bytes - 16;
    auto const value = [&](int nibble, int i) {
      int const whole = nibble | (Bits == 5 ? static_cast<int>(fifths >> i & 1) << 4 : 0);
      if constexpr (Minimum) return d * static_cast<float>(whole) + m;
      else return d * static_cast<float>(whole - (1 << (Bits - 1)));
    };
    for (int i = 0; i < 16; ++i) y[i] = value(byte_at(q, i) & 15, i);
    for (int i = 0; i < 16; ++i) y[16 + i] = value(byte_at(q, i) >> 4, 16 + i);
  }
};

struct q8_0_block {
  static constexpr int elements = 32, bytes = 34;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    float const d = half_at(p, 0);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(signed_at(p + 2, i));
  }
};

/// Sixteen groups of 16: two bits each, 4 bits of scale and of minimum for a group. Bits of 128 elements share 32
/// bytes.
struct q2_k_block {
  static constexpr int elements = 256, bytes = 84;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    float const d = half_at(p, 80), m = half_at(p, 82);
    for (index_t g = 0; g < 16; ++g) {
      float const scale = d * static_cast<float>(byte_at(p, g) & 15),
                  minimum = m * static_cast<float>(byte_at(p, g) >> 4);
      auto const* q = p + 16 + g / 8 * 32 + g % 2 * 16;
      index_t const shift = g % 8 / 2 * 2;
      for (index_t i = 0; i < 16; ++i) y[16 * g + i] = scale * static_cast<float>(byte_at(q, i) >> shift & 3) - minimum;
    }
  }
};

/// As Q2_K without minima: a third bit in `mask` (0 takes 4 off), and scales of 6 bits in 12 bytes, 4 and 2 apart.
struct q3_k_block {
  static constexpr int elements = 256, bytes = 110;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    auto const *mask = p, *scales = p + 96;
    float const d = half_at(p, 108);
    for (index_t g = 0; g < 16; ++g) {
      int const low = byte_at(scales, g % 8) >> g / 8 * 4 & 15, high = byte_at(scales, 8 + g % 4) >> g / 4 * 2 & 3;
      float const scale = d * static_cast<float>((low | high << 4) - 32);
      index_t const first = g % 2 * 16, shift = g % 8 / 2 * 2;
      auto const* q = p + 32 + g / 8 * 32 + first;
      for (index_t i = 0; i < 16; ++i) {
        int const third = byte_at(mask, first + i) >> g / 2 & 1;
        y[16 * g + i] = scale * static_cast<float>((byte_at(q, i) >> shift & 3) - (third ? 0 : 4));
      }
    }
  }
};

/// Q4_K and Q5_K: eight groups of 32, scales and minima of 6 bits in 12 bytes, fifth bits in 32 bytes.
template <int Bits>
struct k_block {
  static constexpr int elements = 256, bytes = Bits == 5 ? 176 : 144;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    float const d = half_at(p, 0), m = half_at(p, 2);
    auto const *s = p + 4, *fifths = p + 16, *q = p + bytes - 128;
    for (index_t g = 0; g < 8; ++g) {
      index_t const j = g % 4;
      int const both = byte_at(s, 8 + j);
      int const six = g < 4 ? byte_at(s, j) & 63 : (both & 15) | (byte_at(s, j) >> 2 & 48);
      int const minimum_six = g < 4 ? byte_at(s, 4 + j) & 63 : both >> 4 | (byte_at(s, 4 + j) >> 2 & 48);
      float const scale = d * static_cast<float>(six), minimum = m * static_cast<float>(minimum_six);
      for (index_t i = 0; i < 32; ++i) {
        int whole = byte_at(q, g / 2 * 32 + i) >> g % 2 * 4 & 15;
        if constexpr (Bits == 5) whole |= (byte_at(fifths, i) >> g & 1) << 4;
        y[32 * g + i] = scale * static_cast<float>(whole) - minimum;
      }
    }
  }
};

/// Sixteen groups of 16 with signed scales of 8 bits: 4 bits in 128 bytes, 2 more in 64.
struct q6_k_block {
  static constexpr int elements = 256, bytes = 210;
  LORAGA_HD static void decode(std::byte const* p, float* y) {
    auto const *low = p, *high = p + 128, *scales = p + 192;
    float const d = half_at(p, 208);
    for (index_t g = 0; g < 16; ++g) {
      float const scale = d * static_cast<float>(signed_at(scales, g));
      index_t const half = g / 8, within = g % 8, first = within % 2 * 16;
      auto const* four = low + half * 64 + within / 2 % 2 * 32 + first;
      auto const* two = high + half * 32 + first;
      index_t const shift = within / 4 * 4, two_shift = within / 2 * 2;
      for (index_t i = 0; i < 16; ++i) {
        int const whole = (byte_at(four, i) >> shift & 15) | (byte_at(two, i) >> two_shift & 3) << 4;
        y[16 * g + i] = scale * static_cast<float>(whole - 32);
      }
    }
  }
};
}  // namespace format

/// Calls f(Block{}) with what decodes a type: Block::elements, Block::bytes, Block::decode(bytes, floats).
/// errors  format_error naming `where` and the type, for one that is not decoded here
template <class F>
decltype(auto) with_gguf_block(gguf_type_facts const& facts, std::string_view where, F&& f) {
  switch (facts.type) {
    case gguf_type::F64:
      return f(format::plain_block<double>{});
    case gguf_type::F32:
      return f(format::plain_block<float>{});
    case gguf_type::F16:
      return f(format::plain_block<fp16>{});
    case gguf_type::BF16:
      return f(format::plain_block<bf16>{});
    case gguf_type::Q4_0:
      return f(format::nibble_block<4, false>{});
    case gguf_type::Q4_1:
      return f(format::nibble_block<4, true>{});
    case gguf_type::Q5_0:
      return f(format::nibble_block<5, false>{});
    case gguf_type::Q5_1:
      return f(format::nibble_block<5, true>{});
    case gguf_type::Q8_0:
      return f(format::q8_0_block{});
    case gguf_type::Q2_K:
      return f(format::q2_k_block{});
    case gguf_type::Q3_K:
      return f(format::q3_k_block{});
    case gguf_type::Q4_K:
      return f(format::k_block<4>{});
    case gguf_type::Q5_K:
      return f(format::k_block<5>{});
    case gguf_type::Q6_K:
      return f(format::q6_k_block{});
    default:
      raise<format_error>(
          where, "type", std::string(facts.name),
          "F64, F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K; quantise the model to one of them");
  }
}

}  // namespace loraga

#pragma once
#include <Eigen/Core>
#include <loraga/core/config.hpp>

// Eigen's vector types lose their attributes as template arguments, and g++ remarks it wherever these are used; a warning
// switched off by a pragma comes back from a precompiled header.
#pragma GCC system_header

namespace loraga::eigen {

/// Vector registers of T, by Eigen's names for them: the widest there are, or half of that.
template <class T, bool Half = false>
struct packets {
  using widest = typename Eigen::internal::packet_traits<T>::type;
  using type = std::conditional_t<Half, typename Eigen::internal::unpacket_traits<widest>::half, widest>;
  static constexpr index_t lanes = Eigen::internal::unpacket_traits<type>::size;

  static type all(T x) { return Eigen::internal::pset1<type>(x); }
  static type load(T const* p) { return Eigen::internal::ploadu<type>(p); }
  static void store(T* p, type x) { Eigen::internal::pstoreu(p, x); }
  static type madd(type x, type y, type z) { return Eigen::internal::pmadd(x, y, z); }
  static type multiply(type x, type y) { return Eigen::internal::pmul(x, y); }

  /// to(i, k) = from(k, i) for a square of registers: columns of `from` and of `to` lie ld_from and ld_to apart.
  static void transpose(T const* from, index_t ld_from, T* to, index_t ld_to) {
    Eigen::internal::PacketBlock<type, static_cast<int>(lanes)> square;
#pragma GCC unroll 16
    for (index_t i = 0; i < lanes; ++i) square.packet[i] = load(from + i * ld_from);
    Eigen::internal::ptranspose(square);
#pragma GCC unroll 16
    for (index_t i = 0; i < lanes; ++i) store(to + i * ld_to, square.packet[i]);
  }
};

/// Registers there are.
inline constexpr bool many_registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32;

}  // namespace loraga::eigen

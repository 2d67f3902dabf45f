#pragma once
#include <loraga/concepts.hpp>

namespace loraga {

/// Whether a backend's work runs on a device: where launches cost more than arithmetic, and products of two 16-bit
/// matrices run as they are.
template <class B>
inline constexpr bool on_device = std::is_same_v<typename B::space, device_space>;

/// The type of what passes of an adapter keep between A and B: h = A*x, dh = s*BT*dy, drop(x).
/// In 16 bit on a device it is T itself, as in PEFT. Both operands of every product then have one type, and run on
/// tensor cores as they are; a float h would have B, dY and X widened to float in full. On a CPU, which multiplies in
/// float anyway, it is compute_t<T>.
/// Float activations around 16-bit factors widen A, B, h and dh on a device, and no activation. Around float factors
/// activations in bf16 are multiplied as they are, by h, dh, A and B in parts (backend/cuda_split.cuh); those in fp16
/// are widened. So a device is fastest where both have one type.
/// loss    h and dh are summed in float and rounded once, s included: in bf16 by 2^-9, as every number of X, dY and Y is.
///         h in two parts would leave 2^-17, for six more launches per layer. In fp16 h and dh above 65504 are
///         infinite: the loss, or dA and dX, show it to a gradient scaler. dh's range is PEFT's or better, where s*dY
///         is rounded too
template <class B, Element T>
using inner_t = std::conditional_t<is_16bit<T> && on_device<B>, T, compute_t<T>>;

}  // namespace loraga

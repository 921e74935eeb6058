#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace longshadow {

/// Element types that tensors are stored in.
enum class DType : std::uint8_t { kF32 = 0, kBF16 = 1 };

constexpr std::size_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

/// bfloat16 as its bits. Conversion from float rounds to nearest, ties to even; NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits;

  static BFloat16 FromFloat(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffU) > 0x7f800000U) return {static_cast<std::uint16_t>((u >> 16) | 0x40U)};
    return {static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16)};
  }
  float ToFloat() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
static_assert(sizeof(BFloat16) == 2);

}  // namespace longshadow

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace longshadow {

/// CRC32C (Castagnoli, reflected, as in iSCSI): "123456789" gives 0xe3069283. `crc` is the value
/// of the bytes before `data`, so a long run may be checksummed in pieces.
std::uint32_t Crc32c(std::span<const std::byte> data, std::uint32_t crc = 0);

}  // namespace longshadow

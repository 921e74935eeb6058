#include "kv/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace longshadow {

std::uint32_t Crc32c(std::span<const std::byte> data, std::uint32_t crc) {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 30;  // the library's length is an int
  std::uint32_t state = ~crc;
  while (!data.empty()) {
    const std::size_t bytes = std::min(data.size(), kPieceBytes);
    // The library only reads; its parameter lacks the const.
    auto* begin = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data()));
    state = crc32_iscsi(begin, static_cast<int>(bytes), state);
    data = data.subspan(bytes);
  }
  return ~state;
}

}  // namespace longshadow

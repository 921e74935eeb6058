#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "kv/crc32c.h"

namespace longshadow {
namespace {

TEST(Crc32c, GivesTheStandardCheckValue) {
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(std::string_view("123456789")))), 0xe3069283U);
}

TEST(Crc32c, OfNothingIsZero) { EXPECT_EQ(Crc32c({}), 0U); }

// RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
TEST(Crc32c, GivesTheValuesOfTheIscsiStandard) {
  std::vector<std::byte> bytes(32);
  EXPECT_EQ(Crc32c(bytes), 0x8a9136aaU);
  bytes.assign(32, std::byte{0xff});
  EXPECT_EQ(Crc32c(bytes), 0x62a8ab43U);
  for (std::size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(i);
  EXPECT_EQ(Crc32c(bytes), 0x46dd794eU);
}

TEST(Crc32c, OfPiecesEqualsTheWhole) {
  std::vector<std::byte> bytes(1001);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  const std::span<const std::byte> all(bytes);
  for (const std::size_t cut : {0UL, 1UL, 17UL, 512UL, 1001UL}) {
    EXPECT_EQ(Crc32c(all.subspan(cut), Crc32c(all.first(cut))), Crc32c(all)) << "cut at " << cut;
  }
}

}  // namespace
}  // namespace longshadow

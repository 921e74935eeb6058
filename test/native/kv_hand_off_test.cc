#include <cstring>
#include <functional>
#include <random>

#include "kv/crc32c.h"
#include "kv/hand_off.h"
#include "test/native/kv_test_support.h"

namespace longshadow {
namespace {

using kv_test::CodeOf;
using kv_test::kHiddenSize;
using kv_test::LastHidden;
using kv_test::MakeGeometry;
using kv_test::MakeKey;

constexpr std::size_t kCrcOffset = 12;
constexpr std::size_t kHeaderBytes = 120;

HandOff MakeHandOff() {
  Fingerprint maker{};
  maker.fill(0x5a);
  const Fingerprint own = MakeKey().fingerprint;
  return {2100,
          LastHidden(3),
          {{0, 1024, 7, 8, maker}, {1024, 2048, 9, 10, own}, {2048, 2100, 11, 12, own}}};
}

std::vector<std::uint8_t> MakeBytes() {
  return WriteHandOff(MakeKey(), MakeGeometry(), MakeHandOff());
}

HandOff Read(std::span<const std::uint8_t> bytes) {
  return ReadHandOff(bytes, MakeKey(), MakeGeometry(), kHiddenSize);
}

void FixCrc(std::vector<std::uint8_t>& bytes) {
  if (bytes.size() < kCrcOffset + 4) return;
  const std::uint32_t crc = Crc32c(std::as_bytes(std::span(bytes).subspan(kCrcOffset + 4)));
  std::memcpy(bytes.data() + kCrcOffset, &crc, sizeof(crc));
}

TEST(HandOff, ReadsWhatWasWritten) {
  const HandOff read = Read(MakeBytes());
  EXPECT_EQ(read.tokens, 2100);
  EXPECT_EQ(read.last_hidden, LastHidden(3));
  ASSERT_EQ(read.segments.size(), 3U);
  EXPECT_EQ(read.segments[2].begin, 2048);
  EXPECT_EQ(read.segments[2].end, 2100);
  EXPECT_EQ(read.segments[1].keys_header_crc, 9U);
  EXPECT_EQ(read.segments[1].values_header_crc, 10U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read.segments[i].fingerprint, MakeHandOff().segments[i].fingerprint) << i;
  }
}

TEST(HandOff, RefusesAnotherVersion) {
  std::vector<std::uint8_t> bytes = MakeBytes();
  ASSERT_EQ(bytes[8], 2);
  bytes[8] = 1;  // whose segments have no fingerprints
  EXPECT_EQ(CodeOf([&] { Read(bytes); }), ErrorCode::kDataLoss);
}

TEST(HandOff, RefusesEveryFlippedBitAndEveryLength) {
  const std::vector<std::uint8_t> good = MakeBytes();
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::vector<std::uint8_t> bad = good;
    bad[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    ASSERT_EQ(CodeOf([&] { Read(bad); }), ErrorCode::kDataLoss) << "bit " << bit;
  }
  for (std::size_t length = 0; length < good.size(); ++length) {
    ASSERT_EQ(CodeOf([&] { Read(std::span(good).first(length)); }), ErrorCode::kDataLoss);
  }
}

TEST(HandOff, RefusesAnotherKeyOrShape) {
  const std::vector<std::uint8_t> bytes = MakeBytes();
  const std::vector<std::function<void(SessionKey&, KvGeometry&, std::int32_t&)>> changes = {
      [](auto& key, auto&, auto&) { key.session_id[31] = '0'; },
      [](auto& key, auto&, auto&) { key.epoch = 4; },
      [](auto& key, auto&, auto&) { key.stage = 0; },
      [](auto& key, auto&, auto&) { key.layer_begin = 0; },
      [](auto& key, auto&, auto&) { key.fingerprint[0] = 9; },
      [](auto&, auto& geometry, auto&) { geometry.layers = 3; },
      [](auto&, auto& geometry, auto&) { geometry.kv_heads = 1; },
      [](auto&, auto& geometry, auto&) { geometry.head_dim = 16; },
      [](auto&, auto& geometry, auto&) { geometry.dtype = DType::kBF16; },
      [](auto&, auto&, auto& hidden_size) { hidden_size = 30; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    SessionKey key = MakeKey();
    KvGeometry geometry = MakeGeometry();
    std::int32_t hidden_size = kHiddenSize;
    changes[i](key, geometry, hidden_size);
    EXPECT_EQ(CodeOf([&] { ReadHandOff(bytes, key, geometry, hidden_size); }), ErrorCode::kDataLoss)
        << "change " << i;
  }
}

TEST(HandOff, RefusesSegmentsThatDoNotCoverTheTokens) {
  const std::vector<std::vector<HandOffSegment>> wrong = {
      {},
      {{0, 1024, 0, 0}},
      {{0, 1024, 0, 0}, {1536, 2100, 0, 0}},
      {{512, 2100, 0, 0}},
      {{0, 2100, 0, 0}, {2100, 2100, 0, 0}},
      {{0, 1000, 0, 0}, {1000, 2100, 0, 0}},
      {{0, INT64_MAX, 0, 0}},
      {{0, 512, 0, 0}, {512, -512, 0, 0}},
  };
  for (const auto& segments : wrong) {
    HandOff hand_off = MakeHandOff();
    hand_off.segments = segments;
    const auto bytes = WriteHandOff(MakeKey(), MakeGeometry(), hand_off);
    EXPECT_EQ(CodeOf([&] { Read(bytes); }), ErrorCode::kDataLoss);
  }
  HandOff nothing = MakeHandOff();
  nothing.tokens = 0;
  nothing.segments.clear();
  EXPECT_EQ(CodeOf([&] { Read(WriteHandOff(MakeKey(), MakeGeometry(), nothing)); }),
            ErrorCode::kDataLoss);
}

/// Changes some bytes, cuts, or grows.
void Mutate(std::vector<std::uint8_t>& bytes, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  switch (below(4)) {
    case 0:
      bytes.resize(below(bytes.size() + 1));
      break;
    case 1:
      bytes.resize(bytes.size() + 1 + below(300), static_cast<std::uint8_t>(random()));
      break;
    default:
      // Mostly in the header, where the lengths and counts are.
      for (std::size_t i = 0, count = 1 + below(4); i < count; ++i) {
        const std::size_t range = below(4) == 0 ? bytes.size() : kHeaderBytes;
        bytes[below(range)] = static_cast<std::uint8_t>(below(3) == 0 ? 0xff : random());
      }
  }
}

TEST(HandOff, SurvivesTwentyThousandMutations) {
  const std::vector<std::uint8_t> good = MakeBytes();
  std::mt19937 random(20261121);  // NOLINT: the same mutations in every run
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::uint8_t> bytes = good;
    Mutate(bytes, random);
    const bool forged = i % 2 == 0;  // with a right checksum the checks behind it are reached
    if (forged && bytes.size() >= 24) {
      const std::uint64_t length = bytes.size();
      if (i % 4 == 0) std::memcpy(bytes.data() + 16, &length, sizeof(length));
      FixCrc(bytes);
    }
    try {
      const HandOff read = Read(bytes);
      // Forged bytes may pass only if what they say is well-formed: covered, of the right shape.
      ASSERT_TRUE(forged || bytes == good);
      ASSERT_EQ(read.last_hidden.size(), static_cast<std::size_t>(kHiddenSize));
      ASSERT_EQ(read.segments.back().end, read.tokens);
      ASSERT_EQ(bytes.size(), good.size());
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kDataLoss) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 15000);
}

TEST(HandOff, NamesTheVeryFilesOfTheSession) {
  kv_test::TemporaryStore store;
  auto prefill = kv_test::OpenPrefill(store);
  kv_test::Prefill(*prefill, 600);
  const std::vector<std::uint8_t> hand_off = prefill->Seal();
  prefill.reset();
  store.store()->RemoveSession(kv_test::kSessionId);
  // The same key and range again, but other rows: a valid segment, and not the one handed off.
  prefill = kv_test::OpenPrefill(store);
  kv_test::Fill(prefill->BeginChunk(0, 600), 0, 599);
  prefill->FinishChunk(LastHidden(600));
  EXPECT_EQ(CodeOf([&] { kv_test::OpenDecode(store, hand_off); }), ErrorCode::kDataLoss);
  EXPECT_EQ(kv_test::OpenDecode(store, prefill->Seal())->tokens(), 600);
}

}  // namespace
}  // namespace longshadow

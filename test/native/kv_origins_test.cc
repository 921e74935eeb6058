// Segments that another session or an earlier plan made, linked under a session's own names.
#include <functional>
#include <string>
#include <vector>

#include "kv/segment_format.h"
#include "test/native/kv_test_support.h"

namespace longshadow {
namespace {

using kv_test::CodeOf;
using kv_test::FlipBit;
using kv_test::kHiddenSize;
using kv_test::LastHidden;
using kv_test::MakeGeometry;
using kv_test::MakeKey;
using kv_test::OpenDecode;
using kv_test::Prefill;
using kv_test::TemporaryStore;
using kv_test::WrongElements;

const std::string kMakerId = "fedcba9876543210fedcba9876543210";

/// The session whose segments are linked: another id, epoch and fingerprint.
SessionKey MakerKey() {
  SessionKey key = MakeKey(7);
  key.session_id = kMakerId;
  key.fingerprint.fill(0xa5);
  return key;
}

std::vector<SegmentOrigin> OriginUpTo(std::int64_t end) {
  return {{0, end, MakerKey().fingerprint}};
}

std::shared_ptr<PrefillSession> OpenWith(const TemporaryStore& store,
                                         std::vector<SegmentOrigin> origins) {
  return PrefillSession::Open(store.store(), MakeKey(), MakeGeometry(), kHiddenSize,
                              std::move(origins));
}

/// Links a segment of the maker (epoch 7) under the name it has in the session (epoch 3).
void Link(const TemporaryStore& store, const std::string& range) {
  const std::filesystem::path own = store.file("");
  std::filesystem::create_directories(own);
  std::filesystem::permissions(own, std::filesystem::perms::owner_all);
  for (const char* kind : {".k", ".v"}) {
    std::filesystem::create_hard_link(store.path() + "/" + kMakerId + "/7-1-" + range + kind,
                                      own / ("3-1-" + range + kind));
  }
}

/// A maker of [0, 1024), [1024, 2048) and [2048, 2100), its first two segments linked.
void LinkTwoSegments(const TemporaryStore& store) {
  const auto maker = PrefillSession::Open(store.store(), MakerKey(), MakeGeometry(), kHiddenSize);
  Prefill(*maker, 1024);
  Prefill(*maker, 2048);
  Prefill(*maker, 2100);
  Link(store, "0-1024");
  Link(store, "1024-2048");
}

TEST(SegmentOrigins, AreAdoptedContinuedSealedAndDecoded) {
  TemporaryStore store;
  LinkTwoSegments(store);
  auto session = OpenWith(store, OriginUpTo(2048));
  EXPECT_EQ(session->tokens(), 2048);
  session->VerifyLayer(0);
  session->VerifyLayer(1);
  Prefill(*session, 3072);
  Prefill(*session, 3100);
  const std::vector<std::uint8_t> hand_off = session->Seal();
  session.reset();
  store.store()->RemoveSession(kMakerId);  // links outlive their maker's names

  const auto decode = OpenDecode(store, hand_off);
  EXPECT_EQ(decode->tokens(), 3100);
  EXPECT_EQ(decode->last_hidden(), LastHidden(3100));
  decode->VerifyLayer(0);
  decode->VerifyLayer(1);
  EXPECT_EQ(WrongElements(decode->Extend(0), 0, 3100), 0);
  // A restarted worker adopts both kinds again, and seals the same hand-off.
  EXPECT_EQ(OpenWith(store, OriginUpTo(2048))->Seal(), hand_off);
}

TEST(SegmentOrigins, CanCoverTheWholePromptAndComeFromSeveralMakers) {
  TemporaryStore store;
  LinkTwoSegments(store);
  Link(store, "2048-2100");
  const auto whole = OpenWith(store, OriginUpTo(2100));
  EXPECT_EQ(OpenDecode(store, whole->Seal())->last_hidden(), LastHidden(2100));

  SessionKey earlier = MakeKey(2);  // an earlier plan of this session
  earlier.fingerprint.fill(0x11);
  TemporaryStore other;
  LinkTwoSegments(other);
  std::filesystem::remove(other.file("3-1-0-1024.k"));
  std::filesystem::remove(other.file("3-1-0-1024.v"));
  Prefill(*PrefillSession::Open(other.store(), earlier, MakeGeometry(), kHiddenSize), 1024);
  for (const char* kind : {"k", "v"}) {
    std::filesystem::create_hard_link(other.file(std::string("2-1-0-1024.") + kind),
                                      other.file(std::string("3-1-0-1024.") + kind));
  }
  const auto session =
      OpenWith(other, {{0, 1024, earlier.fingerprint}, {1024, 2048, MakerKey().fingerprint}});
  EXPECT_EQ(session->tokens(), 2048);
  EXPECT_EQ(other.Files().size(), 4U) << "the earlier plan's own names go";
  EXPECT_EQ(OpenDecode(other, session->Seal())->tokens(), 2048);
}

TEST(SegmentOrigins, AdoptNothingWithTheWrongFingerprint) {
  const Fingerprint maker = MakerKey().fingerprint;
  Fingerprint wrong = maker;
  wrong[3] ^= 1;
  struct Case {
    const char* name;
    std::vector<SegmentOrigin> origins;
    std::int64_t adopted;
  };
  const std::vector<Case> cases = {
      {"no origin", {}, 0},
      {"another fingerprint", {{0, 2048, wrong}}, 0},
      {"another one for the second", {{0, 1024, maker}, {1024, 2048, wrong}}, 1024},
      {"the first only", {{0, 1024, maker}}, 1024},
      {"a range that cuts the second", {{0, 1536, maker}}, 1024},
      {"the second only", {{1024, 2048, maker}}, 0},
      {"the session's own", {{0, 2048, MakeKey().fingerprint}}, 0},
  };
  for (const Case& c : cases) {
    TemporaryStore store;
    LinkTwoSegments(store);
    const auto session = OpenWith(store, c.origins);
    EXPECT_EQ(session->tokens(), c.adopted) << c.name;
    EXPECT_EQ(store.Files().size(), c.adopted == 0 ? 0U : 2U) << c.name << ": refused names go";
    Prefill(*session, 2048);  // what was not adopted does not stand in the way
    EXPECT_EQ(OpenDecode(store, session->Seal())->tokens(), 2048) << c.name;
  }
}

TEST(SegmentOrigins, TakeNoSegmentOfTheSessionItself) {
  TemporaryStore store;
  Prefill(*kv_test::OpenPrefill(store), 1024);
  EXPECT_EQ(OpenWith(store, OriginUpTo(1024))->tokens(), 0);
}

TEST(SegmentOrigins, AreCheckedInEverythingButIdAndEpoch) {
  for (const std::function<void(SessionKey&)>& change :
       {std::function<void(SessionKey&)>([](SessionKey& key) { key.layer_begin = 0; }),
        std::function<void(SessionKey&)>([](SessionKey& key) { key.stage = 0; })}) {
    TemporaryStore store;
    SessionKey key = MakerKey();
    change(key);
    Prefill(*PrefillSession::Open(store.store(), key, MakeGeometry(), kHiddenSize), 1024);
    std::filesystem::create_directories(store.file(""));
    std::filesystem::permissions(store.file(""), std::filesystem::perms::owner_all);
    for (const char* kind : {".k", ".v"}) {
      const std::string made = "7-" + std::to_string(key.stage) + "-0-1024" + kind;
      std::filesystem::create_hard_link(store.path() + "/" + kMakerId + "/" + made,
                                        store.file(std::string("3-1-0-1024") + kind));
    }
    EXPECT_EQ(OpenWith(store, OriginUpTo(1024))->tokens(), 0);
  }
}

TEST(SegmentOrigins, NoFlippedBitOfTheHeaderIsAdopted) {
  TemporaryStore store;
  LinkTwoSegments(store);
  const std::string path = store.path() + "/" + kMakerId + "/7-1-0-1024.k";
  for (std::int64_t byte = 0; byte < static_cast<std::int64_t>(sizeof(SegmentHeader)); ++byte) {
    FlipBit(path, byte);
    EXPECT_EQ(OpenWith(store, OriginUpTo(2048))->tokens(), 0) << "byte " << byte;
    FlipBit(path, byte);
    Link(store, "0-1024");  // the refused names went
    Link(store, "1024-2048");
  }
  EXPECT_EQ(OpenWith(store, OriginUpTo(2048))->tokens(), 2048);
}

TEST(SegmentOrigins, AFlippedByteOfTheirDataIsDataLoss) {
  TemporaryStore store;
  LinkTwoSegments(store);
  const auto session = OpenWith(store, OriginUpTo(2048));
  const std::vector<std::uint8_t> hand_off = session->Seal();
  const std::string path = store.file("3-1-0-1024.v");
  FlipBit(path, static_cast<std::int64_t>(std::filesystem::file_size(path)) - 1);
  const auto reopened = OpenWith(store, OriginUpTo(2048));
  EXPECT_EQ(CodeOf([&] { reopened->VerifyLayer(1); }), ErrorCode::kDataLoss);
  const auto decode = OpenDecode(store, hand_off);
  EXPECT_EQ(CodeOf([&] { decode->VerifyLayer(1); }), ErrorCode::kDataLoss);
}

TEST(SegmentOrigins, DecodeRefusesAnotherSegmentUnderTheSameName) {
  TemporaryStore store;
  LinkTwoSegments(store);
  const std::vector<std::uint8_t> hand_off = OpenWith(store, OriginUpTo(2048))->Seal();
  // The session's own bytes of the same range: right in themselves, and not the ones handed off.
  store.store()->RemoveSession(kv_test::kSessionId);
  Prefill(*kv_test::OpenPrefill(store), 1024);
  Link(store, "1024-2048");
  EXPECT_EQ(CodeOf([&] { OpenDecode(store, hand_off); }), ErrorCode::kDataLoss);
}

TEST(SegmentOrigins, ThatAreNotRangesInOrderAreRefused) {
  TemporaryStore store;
  const Fingerprint maker = MakerKey().fingerprint;
  const std::vector<std::vector<SegmentOrigin>> wrong = {
      {{0, 0, maker}},
      {{-512, 512, maker}},
      {{100, 512, maker}},
      {{1024, 512, maker}},
      {{0, INT64_MAX, maker}},
      {{0, 1024, maker}, {512, 2048, maker}},
      {{1024, 2048, maker}, {0, 1024, maker}},
  };
  for (const auto& origins : wrong) {
    EXPECT_EQ(CodeOf([&] { OpenWith(store, origins); }), ErrorCode::kInvalidArgument)
        << origins.back().begin << ", " << origins.back().end;
  }
}

TEST(SegmentOrigins, ShareTheirBytesWithTheirMaker) {
  TemporaryStore store;
  LinkTwoSegments(store);
  const ValueStoreStatus linked = store.store()->Status();
  store.store()->RemoveSession(kv_test::kSessionId);
  const ValueStoreStatus alone = store.store()->Status();
  EXPECT_EQ(linked.files, 10);
  EXPECT_EQ(alone.files, 6);
  EXPECT_EQ(linked.file_bytes, alone.file_bytes);
}

}  // namespace
}  // namespace longshadow

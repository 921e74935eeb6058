#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

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
using kv_test::OpenPrefill;
using kv_test::Prefill;
using kv_test::TemporaryStore;
using kv_test::WrongElements;

std::int64_t DataOffset(const std::string& path) {
  SegmentHeader header;
  std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof(header));
  return header.data_offset;
}

TEST(PrefillSession, GivesAPageTableOverAllPositionsWithEarlierChunksInIt) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  EXPECT_EQ(session->tokens(), 0);
  Prefill(*session, 1024);
  Prefill(*session, 1536);
  const KvPages pages = session->BeginChunk(1536, 1700);
  EXPECT_EQ(pages.k.size(), 4U);
  EXPECT_EQ(pages.v.size(), 4U);
  EXPECT_EQ(WrongElements(pages, 0, 1536), 0);
  kv_test::Fill(pages, 1536, 1700);
  const SegmentInfo info = session->FinishChunk(LastHidden(1));
  EXPECT_EQ(info.begin, 1536);
  EXPECT_EQ(info.end, 1700);
  EXPECT_EQ(session->tokens(), 1700);
  EXPECT_EQ(session->segments().size(), 3U);
  session->VerifyLayer(0);
  session->VerifyLayer(1);
}

TEST(PrefillSession, RefusesChunksThatDoNotFollow) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  EXPECT_EQ(CodeOf([&] { session->Seal(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(512, 1024); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(0, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(0, -5); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(0, INT64_MAX); }), ErrorCode::kInvalidArgument);
  Prefill(*session, 600);  // a tail: nothing can follow a partial page
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(600, 700); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(512, 700); }), ErrorCode::kInvalidArgument);
}

TEST(PrefillSession, IsAsBeforeWhenAChunkIsAbandoned) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  session->AbandonChunk();  // none is open
  Prefill(*session, 512);
  kv_test::Fill(session->BeginChunk(512, 1024), 512, 700);
  EXPECT_EQ(store.Files().size(), 4U);
  session->AbandonChunk();
  EXPECT_EQ(store.Files(), (std::vector<std::string>{"3-1-0-512.k", "3-1-0-512.v"}));
  EXPECT_EQ(session->tokens(), 512);
  EXPECT_EQ(store.store()->Status().mappings, 2);
  Prefill(*session, 2048);
  EXPECT_EQ(session->tokens(), 2048);
}

TEST(PrefillSession, TakesNoSpaceAndFinishesNothingOnceCancelled) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  const KvPages pages = session->BeginChunk(0, 512);
  kv_test::Fill(pages, 0, 512);
  session->cancellation().Cancel();
  EXPECT_EQ(CodeOf([&] { session->FinishChunk(LastHidden(0)); }), ErrorCode::kCancelled);
  session->AbandonChunk();
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(0, 512); }), ErrorCode::kCancelled);
  session->AbandonChunk();
  EXPECT_TRUE(store.Files().empty());
  EXPECT_EQ(store.store()->Status().mappings, 0);
}

TEST(PrefillSession, AdoptsWhatAKilledProcessFinished) {
  TemporaryStore store;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto session = OpenPrefill(store);
    Prefill(*session, 1024);
    Prefill(*session, 2048);
    session->BeginChunk(2048, 2560);  // killed in the middle of the third chunk
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(store.Files().size(), 6U);

  const auto session = OpenPrefill(store);
  EXPECT_EQ(session->tokens(), 2048);
  EXPECT_EQ(store.Files().size(), 4U) << "unfinished files must go";
  session->VerifyLayer(0);
  session->VerifyLayer(1);
  // The worker died between the last chunk and the seal: the last hidden row is in the K file.
  const auto sealed = OpenDecode(store, session->Seal());
  EXPECT_EQ(sealed->last_hidden(), LastHidden(2048));
  EXPECT_EQ(WrongElements(sealed->Extend(0), 0, 2048), 0);
  Prefill(*session, 2100);
  EXPECT_EQ(OpenDecode(store, session->Seal())->tokens(), 2100);
}

TEST(PrefillSession, RemovesOlderEpochsAndLeavesOtherStagesAndNewerEpochs) {
  TemporaryStore store;
  Prefill(*OpenPrefill(store, MakeKey(2, 1)), 512);
  Prefill(*OpenPrefill(store, MakeKey(2, 0)), 512);
  Prefill(*OpenPrefill(store, MakeKey(4, 1)), 512);
  std::ofstream(store.file("2-1-512-1024.k.tmp-1-1")) << "left over";
  const auto session = OpenPrefill(store, MakeKey(3, 1));
  EXPECT_EQ(session->tokens(), 0);
  EXPECT_EQ(store.Files(),
            (std::vector<std::string>{"2-0-0-512.k", "2-0-0-512.v", "4-1-0-512.k", "4-1-0-512.v"}));
}

struct Damage {
  const char* name;
  const char* file;
  std::int64_t tokens_left;  // what a later process still adopts of [0, 512), [512, 1024)
  std::function<void(const std::string&)> apply;
};

TEST(PrefillSession, AdoptsUpToTheFirstSegmentThatIsNotWhole) {
  const std::vector<Damage> cases = {
      {"bit in the first header", "3-1-0-512.k", 0, [](const auto& p) { FlipBit(p, 100); }},
      {"bit in the second header", "3-1-512-1024.v", 512, [](const auto& p) { FlipBit(p, 20); }},
      {"bit in the checksum table", "3-1-512-1024.k", 512, [](const auto& p) { FlipBit(p, 258); }},
      {"bit in the last hidden row", "3-1-512-1024.k", 512, [](const auto& p) { FlipBit(p, 321); }},
      {"shorter", "3-1-512-1024.k", 512,
       [](const auto& p) { std::filesystem::resize_file(p, 1000); }},
      {"longer", "3-1-512-1024.k", 512,
       [](const auto& p) { std::filesystem::resize_file(p, 1000000); }},
      {"V is gone", "3-1-512-1024.v", 512, [](const auto& p) { std::filesystem::remove(p); }},
      {"K is gone", "3-1-512-1024.k", 512, [](const auto& p) { std::filesystem::remove(p); }},
      {"the first is gone", "3-1-0-512.v", 0, [](const auto& p) { std::filesystem::remove(p); }},
      {"open to others", "3-1-512-1024.v", 512,
       [](const auto& p) {
         std::filesystem::permissions(p, std::filesystem::perms::others_read,
                                      std::filesystem::perm_options::add);
       }},
      {"a link", "3-1-512-1024.v", 512,
       [](const auto& p) {
         std::filesystem::rename(p, p + "-moved");
         std::filesystem::create_symlink(p + "-moved", p);
       }},
  };
  for (const Damage& damage : cases) {
    TemporaryStore store;
    Prefill(*OpenPrefill(store), 512);
    Prefill(*OpenPrefill(store), 1024);
    damage.apply(store.file(damage.file));
    const auto session = OpenPrefill(store);
    EXPECT_EQ(session->tokens(), damage.tokens_left) << damage.name;
    Prefill(*session, 1024);  // what was not adopted does not stand in the way
    EXPECT_EQ(OpenDecode(store, session->Seal())->tokens(), 1024) << damage.name;
  }
}

TEST(PrefillSession, AdoptsNothingOfAnotherFingerprintGeometryOrHiddenSize) {
  TemporaryStore store;
  SessionKey other = MakeKey();
  other.fingerprint[15] ^= 1;
  Prefill(*OpenPrefill(store), 512);
  EXPECT_EQ(OpenPrefill(store, other)->tokens(), 0);
  EXPECT_TRUE(store.Files().empty());
  Prefill(*OpenPrefill(store), 512);
  KvGeometry geometry = MakeGeometry();
  geometry.dtype = DType::kBF16;
  EXPECT_EQ(PrefillSession::Open(store.store(), MakeKey(), geometry, kHiddenSize)->tokens(), 0);
  Prefill(*OpenPrefill(store), 512);
  EXPECT_EQ(
      PrefillSession::Open(store.store(), MakeKey(), MakeGeometry(), kHiddenSize + 1)->tokens(), 0);
}

TEST(PrefillSession, FindsADamagedPlaneInTheLayerThatHoldsIt) {
  for (const char* kind : {"k", "v"}) {
    TemporaryStore store;
    Prefill(*OpenPrefill(store), 1024);
    const std::string path = store.file(std::string("3-1-0-1024.") + kind);
    const KvGeometry geometry = MakeGeometry();
    // The last byte of page 1, layer 1, kv head 2.
    FlipBit(path, DataOffset(path) + 2 * geometry.PageBytes() - 1);
    const auto session = OpenPrefill(store);
    EXPECT_EQ(session->tokens(), 1024);
    session->VerifyLayer(0);
    EXPECT_EQ(CodeOf([&] { session->VerifyLayer(1); }), ErrorCode::kDataLoss);
    EXPECT_EQ(CodeOf([&] { session->VerifyLayer(1); }), ErrorCode::kDataLoss) << "still damaged";
  }
}

TEST(DecodeSession, MapsWholePagesAndCopiesThePartialOne) {
  TemporaryStore store;
  const auto prefill = OpenPrefill(store);
  Prefill(*prefill, 1024);
  Prefill(*prefill, 1700);  // one page and 164 rows
  const auto session = OpenDecode(store, prefill->Seal());
  EXPECT_EQ(session->tokens(), 1700);
  EXPECT_EQ(session->last_hidden(), LastHidden(1700));
  EXPECT_EQ(session->private_bytes(), 2 * MakeGeometry().PageBytes());
  EXPECT_EQ(store.store()->Status().private_bytes, session->private_bytes());
  session->VerifyLayer(0);
  session->VerifyLayer(1);
  const KvPages pages = session->Extend(400);
  EXPECT_EQ(pages.k.size(), 5U);
  EXPECT_EQ(WrongElements(pages, 0, 1700), 0);
  kv_test::Fill(pages, 1700, 2100);
  session->Commit(400);
  EXPECT_EQ(session->tokens(), 2100);
  EXPECT_EQ(WrongElements(session->Extend(0), 0, 2100), 0);
  // The files did not change under the appended rows.
  EXPECT_EQ(OpenDecode(store, prefill->Seal())->tokens(), 1700);
  EXPECT_EQ(OpenPrefill(store)->tokens(), 1700);
}

TEST(DecodeSession, NeverMovesItsPages) {
  const auto session = DecodeSession::OpenScratch(MakeGeometry());
  EXPECT_TRUE(session->last_hidden().empty());
  std::vector<std::byte*> seen;
  for (int step = 0; step < 40; ++step) {
    const KvPages pages = session->Extend(100);
    for (std::size_t page = 0; page < seen.size(); ++page) {
      EXPECT_EQ(pages.k[page], seen[page]);
    }
    seen.assign(pages.k.begin(), pages.k.end());
    session->Commit(100);
  }
  EXPECT_EQ(session->tokens(), 4000);
  EXPECT_EQ(session->private_bytes(), 8 * 2 * MakeGeometry().PageBytes());
}

TEST(DecodeSession, CountsOnlyCommittedRows) {
  const auto session = DecodeSession::OpenScratch(MakeGeometry());
  session->Extend(10);
  EXPECT_EQ(session->tokens(), 0);
  EXPECT_EQ(CodeOf([&] { session->Commit(11); }), ErrorCode::kInternal);
  session->Commit(4);
  EXPECT_EQ(session->tokens(), 4);
  EXPECT_EQ(CodeOf([&] { session->Extend(-1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { session->Extend(INT64_MAX); }), ErrorCode::kInvalidArgument);
}

TEST(DecodeSession, RefusesUnusableGeometries) {
  for (const KvGeometry geometry :
       {KvGeometry{0, 1, 8}, KvGeometry{1, 0, 8}, KvGeometry{1, 1, 12}, KvGeometry{1, 1, 264},
        KvGeometry{1 << 20, 1 << 20, 256}, KvGeometry{-1, 1, 8}}) {
    EXPECT_EQ(CodeOf([&] { DecodeSession::OpenScratch(geometry); }), ErrorCode::kInvalidArgument);
  }
}

TEST(DecodeSession, FindsDamageInPartialPageAtOpenAndInWholePagesAtFirstTouch) {
  for (const char* kind : {"k", "v"}) {
    TemporaryStore store;
    const auto prefill = OpenPrefill(store);
    Prefill(*prefill, 600);
    const std::vector<std::uint8_t> hand_off = prefill->Seal();
    const std::string path = store.file(std::string("3-1-0-600.") + kind);
    const std::int64_t whole = DataOffset(path) + 5;                  // page 0, layer 0
    const std::int64_t partial = whole + MakeGeometry().PageBytes();  // page 1
    FlipBit(path, partial);
    EXPECT_EQ(CodeOf([&] { OpenDecode(store, hand_off); }), ErrorCode::kDataLoss);
    FlipBit(path, partial);
    FlipBit(path, whole);
    const auto session = OpenDecode(store, hand_off);
    session->VerifyLayer(1);
    EXPECT_EQ(CodeOf([&] { session->VerifyLayer(0); }), ErrorCode::kDataLoss);
  }
}

TEST(KvCounters, ReturnToZeroWhenSessionsClose) {
  TemporaryStore store;
  {
    const auto prefill = OpenPrefill(store);
    Prefill(*prefill, 700);
    const auto session = OpenDecode(store, prefill->Seal());
    session->Extend(5000);
    const auto scratch = DecodeSession::OpenScratch(MakeGeometry());
    scratch->Extend(1);
    EXPECT_GT(store.store()->Status().private_bytes, 0);
    EXPECT_EQ(store.store()->Status().mappings, 4);
  }
  const ValueStoreStatus status = store.store()->Status();
  EXPECT_EQ(status.mappings, 0);
  EXPECT_EQ(status.mapped_bytes, 0);
  EXPECT_EQ(status.private_bytes, 0);
}

}  // namespace
}  // namespace longshadow

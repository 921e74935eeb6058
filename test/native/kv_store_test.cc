#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "test/native/kv_test_support.h"

namespace longshadow {
namespace {

using kv_test::CodeOf;
using kv_test::kHiddenSize;
using kv_test::kSessionId;
using kv_test::MakeGeometry;
using kv_test::MakeKey;
using kv_test::OpenPrefill;
using kv_test::Prefill;
using kv_test::TemporaryStore;

mode_t ModeOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

TEST(ValueStore, MakesItsFoldersAndFilesForTheirOwnerAlone) {
  const mode_t before = umask(0);
  {
    TemporaryStore store;
    const auto session = OpenPrefill(store);
    Prefill(*session, 600);
    EXPECT_EQ(ModeOf(store.path()), 0700U);
    EXPECT_EQ(ModeOf(store.file("")), 0700U);
    EXPECT_EQ(store.Files(), (std::vector<std::string>{"3-1-0-600.k", "3-1-0-600.v"}));
    for (const std::string& name : store.Files()) EXPECT_EQ(ModeOf(store.file(name)), 0600U);
  }
  umask(before);
}

TEST(ValueStore, RefusesADirectoryThatOthersMayOpen) {
  TemporaryStore store;
  chmod(store.path().c_str(), 0750);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(store.path()); }), ErrorCode::kInvalidArgument);
}

TEST(ValueStore, RefusesADirectoryOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to give a folder away";
  TemporaryStore store;
  ASSERT_EQ(chown(store.path().c_str(), 12345, 12345), 0);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(store.path()); }), ErrorCode::kInvalidArgument);
}

TEST(ValueStore, RefusesLinksFilesAndEmptyNames) {
  TemporaryStore store;
  const std::string link = store.root() + "/link";
  std::filesystem::create_symlink(store.path(), link);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(link); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(link + "/"); }), ErrorCode::kInvalidArgument);
  std::ofstream(store.root() + "/file") << "x";
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(store.root() + "/file"); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(""); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { ValueStore::Open(store.root() + "/absent/store"); }), ErrorCode::kIo);
}

TEST(ValueStore, RefusesASessionFolderThatIsALink) {
  TemporaryStore store;
  std::filesystem::create_directory(store.root() + "/elsewhere");
  chmod((store.root() + "/elsewhere").c_str(), 0700);
  std::filesystem::create_symlink(store.root() + "/elsewhere", store.path() + "/" + kSessionId);
  EXPECT_EQ(CodeOf([&] { OpenPrefill(store); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { store.store()->RemoveSession(kSessionId); }), ErrorCode::kInvalidArgument);
}

TEST(ValueStore, ChecksSessionIdsBeforeAnyPathIsMade) {
  TemporaryStore store;
  const std::vector<std::string> wrong = {
      "",
      "..",
      "0123456789ABCDEF0123456789abcdef",
      "0123456789abcdef0123456789abcde",
      "0123456789abcdef0123456789abcdef0",
      "../../../../../../../../etc/aaaa",
      std::string("0123456789abcdef0123456789abcde\0", 32),
      "0123456789abcdef0123456789abcde\n",
  };
  for (const std::string& id : wrong) {
    EXPECT_EQ(CodeOf([&] { store.store()->RemoveSession(id); }), ErrorCode::kInvalidArgument) << id;
    SessionKey key = MakeKey();
    key.session_id = id;
    EXPECT_EQ(CodeOf([&] { OpenPrefill(store, key); }), ErrorCode::kInvalidArgument) << id;
  }
  EXPECT_TRUE(std::filesystem::is_empty(store.path()));
}

TEST(ValueStore, CountsFilesOfAllSessionsAndMappingsOfThisProcess) {
  TemporaryStore store;
  const ValueStoreStatus empty = store.store()->Status();
  EXPECT_EQ(empty.files, 0);
  EXPECT_EQ(empty.mappings, 0);
  EXPECT_GT(empty.capacity_bytes, 0);
  EXPECT_GT(empty.free_bytes, 0);
  auto session = OpenPrefill(store);
  Prefill(*session, 1024);
  Prefill(*session, 1100);
  std::int64_t bytes = 0;
  for (const SegmentInfo& segment : session->segments()) bytes += segment.bytes;
  const ValueStoreStatus full = store.store()->Status();
  EXPECT_EQ(full.files, 4);
  EXPECT_EQ(full.file_bytes, bytes);
  EXPECT_EQ(full.mappings, 4);
  EXPECT_EQ(full.mapped_bytes, bytes);
  // 3 pages of K and of V hold the rows; headers and tables take less than a page of tokens each.
  EXPECT_GE(bytes, 2 * 3 * MakeGeometry().PageBytes());
  EXPECT_LE(bytes, 2 * 3 * MakeGeometry().PageBytes() + 4 * 4096);
  session.reset();
  EXPECT_EQ(store.store()->Status().files, 4);
  EXPECT_EQ(store.store()->Status().mappings, 0);
  EXPECT_EQ(store.store()->Status().mapped_bytes, 0);
}

TEST(ValueStore, RemovesASessionWhoseMappingsLiveOn) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  Prefill(*session, 700);
  const std::vector<std::uint8_t> hand_off = session->Seal();
  const auto decode = kv_test::OpenDecode(store, hand_off);
  store.store()->RemoveSession(kSessionId);
  store.store()->RemoveSession(kSessionId);  // unknown: nothing
  EXPECT_TRUE(std::filesystem::is_empty(store.path()));
  EXPECT_EQ(store.store()->Status().files, 0);
  decode->VerifyLayer(0);
  decode->VerifyLayer(1);
  EXPECT_EQ(kv_test::WrongElements(decode->Extend(0), 0, 700), 0);
  EXPECT_EQ(CodeOf([&] { kv_test::OpenDecode(store, hand_off); }), ErrorCode::kDataLoss);
}

/// A file system of 1 MiB, for its owner alone.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(const std::string& path) : path_(path) {
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, "size=1m,mode=0700") == 0;
  }
  ~SmallFileSystem() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

TEST(ValueStore, SaysThatItIsFullAndLeavesNothingBehind) {
  TemporaryStore outer;
  const SmallFileSystem small(outer.path());
  if (!small.mounted()) GTEST_SKIP() << "cannot mount a small tmpfs here (needs root)";
  const auto store = ValueStore::Open(outer.path());
  const auto session = PrefillSession::Open(store, MakeKey(), MakeGeometry(), kHiddenSize);
  Prefill(*session, 1024);  // 2 * 2 pages of 96 KiB
  // Of five pages K fits into the 640 KiB that are left and V does not; of a hundred neither does.
  for (const std::int64_t pages : {5, 100}) {
    try {
      session->BeginChunk(1024, 1024 + pages * kPageTokens);
      ADD_FAILURE() << pages << " pages were given";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kValueStoreFull);
      EXPECT_NE(std::string(error.what()).find("are free"), std::string::npos);
    }
    session->AbandonChunk();
    EXPECT_EQ(store->Status().files, 2);
    EXPECT_EQ(store->Status().mappings, 2);
  }
  Prefill(*session, 1536);  // there is room for one page more
  EXPECT_EQ(session->tokens(), 1536);
}

TEST(ValueStore, SaysThatItIsFullWhenTheSystemRefusesTheSpace) {
  TemporaryStore store;
  const auto session = OpenPrefill(store);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 150'000;  // one page of K has 98,304 bytes
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(CodeOf([&] { session->BeginChunk(0, 1024); }), ErrorCode::kValueStoreFull);
  EXPECT_TRUE(store.Files().empty());
  Prefill(*session, 512);
  EXPECT_EQ(session->tokens(), 512);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
}

}  // namespace
}  // namespace longshadow

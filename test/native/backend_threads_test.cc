// Thread counts that a backend cannot serve are refused; the process goes on.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "longshadow/backend.h"
#include "longshadow/error.h"

namespace longshadow {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

TEST(BackendThreads, MoreThanAnyHostHasAreRefused) {
  for (const std::int32_t threads : {1025, 2'000'000'000}) {
    try {
      MakeBackend("cpu", threads);
      ADD_FAILURE() << threads << " threads were accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    }
  }
}

/// Leaves room for some thread stacks only, and asks for 1,000 threads. Exits with 0 if that is an
/// Error and a smaller backend then still opens.
[[noreturn]] void StarveThreads() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  const rlim_t limit =
      pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (rlim_t{512} << 20);  // bytes
  const rlimit space{limit, limit};
  if (setrlimit(RLIMIT_AS, &space) != 0) _exit(2);
  try {
    MakeBackend("cpu", 1000);
    _exit(3);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInternal) _exit(4);
  }
  MakeBackend("cpu", 2);
  _exit(0);
}

TEST(BackendThreads, AThreadThatCannotStartIsAnErrorAndNotTheEnd) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer needs its own address space";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(StarveThreads(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace longshadow

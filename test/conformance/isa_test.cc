#include <cstdlib>
#include <string>

#include "longshadow/error.h"
#include "test/conformance/cpu_offers.h"
#include "test/conformance/support.h"

namespace longshadow::conformance {
namespace {

/// Sets LONGSHADOW_CPU_ISA for one scope.
class ForcedIsa {
 public:
  explicit ForcedIsa(const char* value) {
    const char* before = std::getenv("LONGSHADOW_CPU_ISA");
    if (before != nullptr) before_ = before;
    setenv("LONGSHADOW_CPU_ISA", value, 1);
  }
  ~ForcedIsa() {
    if (before_.empty()) {
      unsetenv("LONGSHADOW_CPU_ISA");
    } else {
      setenv("LONGSHADOW_CPU_ISA", before_.c_str(), 1);
    }
  }

 private:
  std::string before_;
};

TEST(InstructionSetTest, AnUnknownNameIsRefusedWithWhatToSet) {
  const ForcedIsa forced("sse9");
  try {
    (void)MakeBackend("cpu", 1);
    FAIL() << "sse9 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("LONGSHADOW_CPU_ISA"), std::string::npos);
  }
}

TEST(InstructionSetTest, AForcedPathIsTheOneThatRunsOrIsRefused) {
  for (const char* name : {"avx2", "avx512", "avx512_bf16"}) {
    const ForcedIsa forced(name);
    try {
      EXPECT_EQ(MakeBackend("cpu", 1)->InstructionSet(), name);
      EXPECT_TRUE(test::CpuOffers(name)) << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_FALSE(test::CpuOffers(name)) << "refused although the CPU has it: " << error.what();
      std::cout << error.what() << std::endl;
    }
  }
}

}  // namespace
}  // namespace longshadow::conformance

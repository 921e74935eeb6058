// gtest_main, but for one thing: where LONGSHADOW_CPU_ISA forces an instruction set that the CPU
// lacks, the run is skipped with a line.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "test/conformance/cpu_offers.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleTest(&argc, argv);
  const char* forced = std::getenv("LONGSHADOW_CPU_ISA");
  if (forced != nullptr && !longshadow::test::CpuOffers(forced)) {
    std::cout << "skipped: this CPU lacks " << forced << std::endl;
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}

#include "engine/relative_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace longshadow {
namespace {

TEST(RelativeErrors, AreOfAllElementsOfTheColumns) {
  const std::vector<float> exact = {3, 4, 0, 100, 0, 0, 0, 100};  // [2, 3], stride 4
  std::vector<float> approximate = exact;
  const auto view = [](const std::vector<float>& m) {
    return ConstMatrixView(m.data(), DType::kF32, 2, 3, 4);
  };
  EXPECT_EQ(RelativeError(view(approximate), view(exact)), 0);
  approximate[3] = -1;  // beyond the columns
  EXPECT_EQ(RelativeError(view(approximate), view(exact)), 0);
  approximate[0] = 0;
  approximate[5] = 4;
  EXPECT_DOUBLE_EQ(RelativeError(view(approximate), view(exact)), 1);
  approximate[5] = std::nanf("");
  EXPECT_EQ(RelativeError(view(approximate), view(exact)), 1);
  const std::vector<float> zeros(8, 0);
  EXPECT_EQ(RelativeError(view(zeros), view(zeros)), 0);
  EXPECT_EQ(RelativeError(view(exact), view(zeros)), 1);
}

TEST(RelativeErrors, ReadBf16) {
  const std::vector<BFloat16> exact = {BFloat16::FromFloat(2), BFloat16::FromFloat(0)};
  const std::vector<BFloat16> approximate = {BFloat16::FromFloat(2), BFloat16::FromFloat(0.5F)};
  EXPECT_DOUBLE_EQ(RelativeError({approximate.data(), DType::kBF16, 1, 2, 2},
                                 {exact.data(), DType::kBF16, 1, 2, 2}),
                   0.25);
}

}  // namespace
}  // namespace longshadow

#include <functional>

#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::LinesOf;
using sparse_test::Refusal;

/// Head 0 dense, 1 lines, 2 blocks; three query blocks from 128 on, the last one ragged.
KeySelection Good() {
  KeySelection selection{128, 130, {{}, LinesOf({0, 5, 257}, {0, 7, 257}), {}}};
  selection.heads[2].form = HeadSelection::Form::kBlocks;
  selection.heads[2].block_offsets = {0, 2, 3, 7};
  selection.heads[2].blocks = {0, 2, 3, 0, 1, 3, 4};
  return selection;
}

/// The refusal of a selection that differs from the good one in what `change` changes.
std::string After(const std::function<void(KeySelection&)>& change) {
  KeySelection selection = Good();
  change(selection);
  return Refusal([&] { CheckSelection(selection, 3); });
}

TEST(CheckSelection, TakesWhatKeepsTheRules) {
  EXPECT_EQ(Refusal([] { CheckSelection(Good(), 3); }), "");
  EXPECT_EQ(Refusal([] { CheckSelection({0, 1, {LinesOf({}, {0})}}, 1); }), "");
  EXPECT_EQ(Refusal([] { CheckSelection({0, (INT64_C(1) << 32) - 64, {{}}}, 1); }), "");
}

struct Case {
  const char* says;
  std::function<void(KeySelection&)> change;
};

class CheckSelectionRefuses : public testing::TestWithParam<Case> {};

TEST_P(CheckSelectionRefuses, NamingThePlace) {
  const std::string refusal = After(GetParam().change);
  EXPECT_NE(refusal.find(GetParam().says), std::string::npos) << refusal;
}

INSTANTIATE_TEST_SUITE_P(
    OfTheWhole, CheckSelectionRefuses,
    testing::Values(Case{"must have 3 heads, got 2", [](auto& s) { s.heads.pop_back(); }},
                    Case{"must have 3 heads, got 4", [](auto& s) { s.heads.emplace_back(); }},
                    Case{"position", [](auto& s) { s.position = 100; }},
                    Case{"position", [](auto& s) { s.position = -64; }},
                    Case{"rows", [](auto& s) { s.rows = 0; }},
                    Case{"rows", [](auto& s) { s.rows = -1; }},
                    Case{"rows", [](auto& s) { s.rows = INT64_C(1) << 32; }},
                    Case{"rows", [](auto& s) { s.rows = INT64_MAX; }},
                    Case{"rows", [](auto& s) { s.position = INT64_MAX - 63; }},
                    Case{"head 0: unknown form 3",
                         [](auto& s) { s.heads[0].form = static_cast<HeadSelection::Form>(3); }}));

INSTANTIATE_TEST_SUITE_P(OfLines, CheckSelectionRefuses,
                         testing::Values(Case{"head 1: columns must ascend, entry 1",
                                              [](auto& s) {
                                                s.heads[1].columns = {5, 5};
                                              }},
                                         Case{"head 1: columns must ascend, entry 2",
                                              [](auto& s) {
                                                s.heads[1].columns = {0, 5, 4};
                                              }},
                                         Case{"head 1: columns must be below 258",
                                              [](auto& s) { s.heads[1].columns = {258}; }},
                                         Case{"head 1: columns must be below 258",
                                              [](auto& s) { s.heads[1].columns = {UINT32_MAX}; }},
                                         Case{"head 1: distances must ascend, entry 1",
                                              [](auto& s) {
                                                s.heads[1].distances = {0, 0};
                                              }},
                                         Case{"head 1: distances must be below 258",
                                              [](auto& s) {
                                                s.heads[1].distances = {0, 258};
                                              }},
                                         Case{"head 1: distances must contain 0",
                                              [](auto& s) {
                                                s.heads[1].distances = {1, 2};
                                              }},
                                         Case{"head 1: distances must contain 0",
                                              [](auto& s) { s.heads[1].distances.clear(); }}));

INSTANTIATE_TEST_SUITE_P(
    OfBlocks, CheckSelectionRefuses,
    testing::Values(
        Case{"head 2: block_offsets", [](auto& s) { s.heads[2].block_offsets.clear(); }},
        Case{"head 2: block_offsets",
             [](auto& s) {
               s.heads[2].block_offsets = {0, 2, 7};
             }},
        Case{"head 2: block_offsets", [](auto& s) { s.heads[2].block_offsets.push_back(7); }},
        Case{"head 2: block_offsets", [](auto& s) { s.heads[2].block_offsets[0] = 1; }},
        Case{"head 2: block_offsets", [](auto& s) { s.heads[2].block_offsets[3] = 8; }},
        Case{"head 2: block_offsets", [](auto& s) { s.heads[2].block_offsets[3] = 6; }},
        Case{"query block 1",
             [](auto& s) {
               s.heads[2].block_offsets = {0, 2, 1, 7};
             }},
        Case{"must ascend, with a block for each query block; see query block 0",
             [](auto& s) { s.heads[2].block_offsets[1] = INT64_MAX; }},
        Case{"must ascend, with a block for each query block; see query block 0",
             [](auto& s) { s.heads[2].block_offsets[1] = -1; }},
        Case{"must ascend, with a block for each query block; see query block 0",
             [](auto& s) { s.heads[2].block_offsets[1] = 0; }},
        Case{"query block 2 must ascend", [](auto& s) { s.heads[2].blocks[4] = 0; }},
        Case{"query block 0 must be below 3", [](auto& s) { s.heads[2].blocks[1] = 3; }},
        Case{"query block 2 must end with its own", [](auto& s) {
               s.heads[2].block_offsets[3] = 6;
               s.heads[2].blocks.pop_back();
             }}));

TEST(CheckBudgets, TakesWhatAPatternMayHave) {
  const std::vector<HeadBudget> budgets = {{},
                                           {HeadPattern::kDense, 0, 0, 0},
                                           {HeadPattern::kAShape, 0, 1, 0},
                                           {HeadPattern::kVerticalSlash, 0, 0, 0},
                                           {HeadPattern::kVerticalSlash, 1000, 6096, 64},
                                           {HeadPattern::kBlockSparse, 0, 0, 1},
                                           {HeadPattern::kKeyBounds, 0, 0, 1},
                                           {HeadPattern::kFlex, 0, 0, 0},
                                           {HeadPattern::kFlex, INT64_MAX, INT64_MAX, INT64_MAX}};
  EXPECT_EQ(Refusal([&] { CheckBudgets(budgets); }), "");
  EXPECT_EQ(Refusal([] { CheckBudgets({}); }), "");
}

TEST(CheckBudgets, RefusesNamingHeadAndField) {
  const std::vector<std::pair<HeadBudget, std::string>> cases = {
      {{HeadPattern::kVerticalSlash, -1, 0, 0}, "head 1: columns must be at least 0, got -1"},
      {{HeadPattern::kFlex, 0, -7, 0}, "head 1: distances must be at least 0, got -7"},
      {{HeadPattern::kDense, 0, 0, INT64_MIN}, "head 1: tiles must be at least 0"},
      {{HeadPattern::kAShape, 4, 0, 0}, "head 1: distances must be at least 1"},
      {{HeadPattern::kBlockSparse, 4, 4, 0}, "head 1: tiles must be at least 1"},
      {{HeadPattern::kKeyBounds, 0, 0, 0}, "head 1: tiles must be at least 1"},
      {{static_cast<HeadPattern>(kHeadPatterns)}, "head 1: unknown pattern 6"},
  };
  for (const auto& [budget, says] : cases) {
    const std::vector<HeadBudget> budgets = {{}, budget};
    const std::string refusal = Refusal([&] { CheckBudgets(budgets); });
    EXPECT_NE(refusal.find(says), std::string::npos) << refusal;
  }
}

}  // namespace
}  // namespace longshadow

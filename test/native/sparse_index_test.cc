#include "test/native/sparse_test_support.h"

namespace longshadow {
namespace {

using sparse_test::LinesOf;
using sparse_test::Random;
using sparse_test::Refusal;
using Lines = std::vector<std::uint32_t>;
using Offsets = std::vector<std::int64_t>;
using Ranges = std::vector<KeyRange>;

/// Key blocks of each query block.
HeadSelection BlocksOf(const std::vector<Lines>& query_blocks) {
  HeadSelection head;
  head.form = HeadSelection::Form::kBlocks;
  head.block_offsets = {0};
  for (const Lines& blocks : query_blocks) {
    head.blocks.insert(head.blocks.end(), blocks.begin(), blocks.end());
    head.block_offsets.push_back(static_cast<std::int64_t>(head.blocks.size()));
  }
  return head;
}

/// A chunk of rows [128, 258): a dense head, one of lines, one of blocks.
KeySelection ThreeForms() {
  return {128, 130, {{}, LinesOf({1, 130}, {0, 150}), BlocksOf({{0, 1, 2}, {0, 3}, {1, 2, 4}})}};
}

TEST(BuildIndex, ListsTheKeysOfEveryForm) {
  const SparseIndex index = BuildIndex(ThreeForms(), 128, 130);
  EXPECT_EQ(index.position, 128);
  EXPECT_EQ(index.rows, 130);
  EXPECT_EQ(index.blocks, 3);
  EXPECT_EQ(index.ranges, (Ranges{{0, 192},  // dense
                                  {0, 256},
                                  {0, 258},
                                  {0, 64},  // lines
                                  {128, 192},
                                  {42, 106},
                                  {192, 256},
                                  {106, 170},
                                  {256, 258},
                                  {0, 192},  // blocks
                                  {0, 64},
                                  {192, 256},
                                  {64, 192},
                                  {256, 258}}));
  EXPECT_EQ(index.range_offsets, Offsets({0, 1, 2, 3, 5, 7, 9, 10, 12, 14}));
  EXPECT_EQ(index.columns, Lines({1, 130, 1}));
  EXPECT_EQ(index.column_offsets, Offsets({0, 0, 0, 0, 0, 2, 3, 3, 3, 3}));
}

TEST(BuildIndex, StartsAndEndsInsideTheChunk) {
  const SparseIndex index = BuildIndex(ThreeForms(), 192, 5);
  EXPECT_EQ(index.position, 192);
  EXPECT_EQ(index.blocks, 1);
  EXPECT_EQ(index.ranges, (Ranges{{0, 197}, {42, 106}, {192, 197}, {0, 64}, {192, 197}}));
  EXPECT_EQ(index.range_offsets, Offsets({0, 1, 3, 5}));
  EXPECT_EQ(index.columns, Lines({1, 130}));
}

TEST(BuildIndex, CutsNeighbouringBlocksAtTheLastVisibleKey) {
  const KeySelection selection{0, 100, {BlocksOf({{0}, {0, 1}})}};
  const SparseIndex index = BuildIndex(selection, 0, 100);
  EXPECT_EQ(index.ranges, (Ranges{{0, 64}, {0, 100}}));
}

TEST(BuildIndex, RefusesRowsThatAreNotTheChunks) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> wrong = {
      {64, 64}, {0, 64}, {130, 64}, {128, 0}, {128, 131}, {256, 3}, {320, 1}, {128, INT64_MAX}};
  for (const auto& [position, rows] : wrong) {
    const std::string refusal = Refusal([&] { BuildIndex(ThreeForms(), position, rows); });
    EXPECT_NE(refusal.find("chunk [128, 258)"), std::string::npos) << position << ' ' << rows;
  }
}

/// A chunk's heads of all forms, with lines that reach before, into and beyond what its rows see.
KeySelection DrawSelection(Random& random) {
  KeySelection selection;
  selection.position = random.Below(20) * kBlockTokens;
  selection.rows = 1 + random.Below(600);
  const std::int64_t keys = selection.position + selection.rows;
  for (int head = 0; head < 4; ++head) {
    Lines distances = random.Lines(random.Below(60), 1 + random.Below(keys));
    if (distances.empty() || distances[0] != 0) distances.insert(distances.begin(), 0);
    selection.heads.push_back(LinesOf(random.Lines(random.Below(60), keys), distances));
  }
  selection.heads.emplace_back();
  std::vector<Lines> query_blocks;
  for (std::int64_t row = selection.position; row < keys; row += kBlockTokens) {
    const std::int64_t own = row / kBlockTokens;
    Lines blocks = random.Lines(random.Below(own + 1), own + 1);
    if (blocks.empty() || blocks.back() != own) blocks.push_back(static_cast<std::uint32_t>(own));
    query_blocks.push_back(blocks);
  }
  selection.heads.push_back(BlocksOf(query_blocks));
  return selection;
}

TEST(BuildIndex, HoldsTheKeysOfEachBlock) {
  Random random;
  for (int round = 0; round < 500; ++round) {
    const KeySelection selection = DrawSelection(random);
    const auto heads = static_cast<std::int32_t>(selection.heads.size());
    ASSERT_NO_THROW(CheckSelection(selection, heads));
    const std::int64_t skipped = random.Below((selection.rows + kBlockTokens - 1) / kBlockTokens);
    const std::int64_t position = selection.position + skipped * kBlockTokens;
    const std::int64_t rows = 1 + random.Below(selection.position + selection.rows - position);
    const SparseIndex index = BuildIndex(selection, position, rows);
    ASSERT_EQ(std::ssize(index.range_offsets), heads * index.blocks + 1);
    ASSERT_EQ(std::ssize(index.column_offsets), heads * index.blocks + 1);
    Ranges ranges;
    Lines columns;
    for (std::int64_t entry = 0; entry < heads * index.blocks; ++entry) {
      const std::int64_t block = entry % index.blocks;
      const std::int64_t begin = position + block * kBlockTokens;
      ASSERT_EQ(index.range_offsets[entry], std::ssize(ranges));
      ASSERT_EQ(index.column_offsets[entry], std::ssize(columns));
      KeysOfBlock(selection.heads[entry / index.blocks], skipped + block, begin,
                  std::min(kBlockTokens, position + rows - begin), ranges, columns);
    }
    ASSERT_EQ(index.ranges, ranges) << "round " << round;
    ASSERT_EQ(index.columns, columns) << "round " << round;
  }
}

TEST(KeysOfBlock, EndAtTheLastVisibleKeyAndLetEachRowSeeItself) {
  Random random;
  for (int round = 0; round < 500; ++round) {
    const KeySelection selection = DrawSelection(random);
    const SparseIndex index = BuildIndex(selection, selection.position, selection.rows);
    for (std::size_t entry = 0; entry + 1 < index.range_offsets.size(); ++entry) {
      const std::int64_t first = static_cast<std::int64_t>(entry) % index.blocks * kBlockTokens;
      const std::int64_t begin = selection.position + first;
      const std::int64_t end = begin + std::min(kBlockTokens, selection.rows - first);
      ASSERT_LT(index.range_offsets[entry], index.range_offsets[entry + 1]);
      const KeyRange& last = index.ranges[index.range_offsets[entry + 1] - 1];
      ASSERT_LE(last.begin, begin);
      ASSERT_EQ(last.end, end);
      for (auto i = index.range_offsets[entry]; i + 1 < index.range_offsets[entry + 1]; ++i) {
        ASSERT_LT(index.ranges[i].begin, index.ranges[i].end);
        ASSERT_LT(index.ranges[i].end, index.ranges[i + 1].begin);
      }
    }
  }
}

TEST(HostSelection, BuildsNoIndexAndHasAttendedNothing) {
  HostSelection selection(ThreeForms());
  EXPECT_EQ(selection.ToHost().heads.size(), 3U);
  EXPECT_EQ(selection.ToHost().rows, 130);
  EXPECT_EQ(selection.IndexToHost().blocks, 0);
  selection.CountAttended();
  EXPECT_EQ(selection.AttendedKeys(), Offsets({0, 0, 0}));
}

TEST(HostSelection, AddsUpTheKeysOfWhatWasAttended) {
  HostSelection selection(ThreeForms());
  selection.index = BuildIndex(selection.keys, 128, 128);
  selection.CountAttended();
  EXPECT_EQ(selection.AttendedKeys(), Offsets({192 + 256, 128 + 128 + 2, 192 + 128}));
  selection.index = BuildIndex(selection.keys, 256, 2);
  selection.CountAttended();
  EXPECT_EQ(selection.AttendedKeys(), Offsets({448 + 258, 258 + 66 + 1, 320 + 130}));
}

}  // namespace
}  // namespace longshadow

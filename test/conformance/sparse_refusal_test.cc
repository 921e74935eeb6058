#include <functional>
#include <optional>
#include <span>

#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_support.h"

/// Selections and indexes that would lead a kernel astray are refused before one runs.
namespace longshadow::conformance {
namespace {

class ForeignSelection final : public SparseSelection {
 public:
  KeySelection ToHost() const override { return {}; }
  SparseIndex IndexToHost() const override { return {}; }
  std::vector<std::int64_t> AttendedKeys() const override { return {}; }
};

class SparseRefusalTest : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    batch_.emplace(generator_, Heads{1, 2, 64}, DType::kF32, std::span(&kChunk, 1));
    selection_ = Upload();
    backend_->IndexRows(*selection_, kChunk.position, kChunk.rows);
  }

  /// Columns and runs of more than one head and block.
  std::unique_ptr<SparseSelection> Upload() {
    const HeadSelection lines{HeadSelection::Form::kLines, {3, 70}, {0, 140}, {}, {}};
    return backend_->UploadSelection({kChunk.position, kChunk.rows, {lines, lines}}, 2);
  }

  void Attend(SparseSelection& selection, const SequenceRows& rows) {
    Matrix out(batch_->q.dtype(), batch_->q.rows(), batch_->q.cols());
    backend_->SparseAttention(batch_->q.View(), batch_->shape, batch_->geometry, 1, rows, selection,
                              out.View());
    backend_->Synchronize();
  }

  /// Attention by the index with a change must be refused.
  void ExpectRefused(const char* what, const std::function<void(SparseIndex&)>& change) {
    auto& host = dynamic_cast<HostSelection&>(*selection_);
    const SparseIndex good = host.index;
    change(host.index);
    EXPECT_EQ(CodeOf([&] { Attend(*selection_, batch_->sequences[0]); }),
              ErrorCode::kInvalidArgument)
        << what;
    host.index = good;
  }

  static constexpr Sequence kChunk{512, 130};
  std::optional<Batch> batch_;
  std::unique_ptr<SparseSelection> selection_;
};

TEST_P(SparseRefusalTest, OfAnIndexThatLeadsPastItsQueryBlocks) {
  Attend(*selection_, batch_->sequences[0]);  // the unchanged index is taken
  ExpectRefused("a range behind its block", [](SparseIndex& i) { i.ranges[1].end = 577; });
  ExpectRefused("a range behind the rows", [](SparseIndex& i) { i.ranges.back().end = 643; });
  ExpectRefused("an empty range", [](SparseIndex& i) { i.ranges[0].end = i.ranges[0].begin; });
  ExpectRefused("a range that descends", [](SparseIndex& i) { i.ranges[0] = {400, 300}; });
  ExpectRefused("a column in its block", [](SparseIndex& i) { i.columns[1] = 512; });
  ExpectRefused("a first column out of order", [](SparseIndex& i) { i.columns[0] = 0xffffffffU; });
  ExpectRefused("a column far away", [](SparseIndex& i) { i.columns.back() = 0xffffffffU; });
}

TEST_P(SparseRefusalTest, OfAnIndexWhoseOffsetsAreNoRows) {
  ExpectRefused("range offsets that descend", [](SparseIndex& i) { i.range_offsets[1] = 99; });
  ExpectRefused("a negative range offset", [](SparseIndex& i) { i.range_offsets[0] = -1; });
  ExpectRefused("too many ranges", [](SparseIndex& i) { i.ranges.push_back({0, 1}); });
  ExpectRefused("no range offsets", [](SparseIndex& i) { i.range_offsets.clear(); });
  ExpectRefused("a range offset less", [](SparseIndex& i) { i.range_offsets.pop_back(); });
  ExpectRefused("column offsets that descend", [](SparseIndex& i) { i.column_offsets[2] = -5; });
  ExpectRefused("too few columns", [](SparseIndex& i) { i.columns.pop_back(); });
  ExpectRefused("a column offset more", [](SparseIndex& i) { i.column_offsets.push_back(9); });
  ExpectRefused("a block less", [](SparseIndex& i) { --i.blocks; });
}

TEST_P(SparseRefusalTest, OfRowsThatAreNotThoseOfTheIndex) {
  SequenceRows rows = batch_->sequences[0];
  const auto fresh = Upload();
  EXPECT_EQ(CodeOf([&] { Attend(*fresh, rows); }), ErrorCode::kInvalidArgument) << "no index yet";
  rows.rows -= 1;
  EXPECT_EQ(CodeOf([&] { Attend(*selection_, rows); }), ErrorCode::kInvalidArgument) << "fewer";
  rows = {rows.row_begin + 64, 66, rows.position + 64, rows.pages};
  EXPECT_EQ(CodeOf([&] { Attend(*selection_, rows); }), ErrorCode::kInvalidArgument) << "a part";
}

TEST_P(SparseRefusalTest, OfASelectionOfOtherHeads) {
  const auto single = backend_->UploadSelection({kChunk.position, kChunk.rows, {{}}}, 1);
  backend_->IndexRows(*single, kChunk.position, kChunk.rows);
  EXPECT_EQ(CodeOf([&] { Attend(*single, batch_->sequences[0]); }), ErrorCode::kInvalidArgument);
}

TEST_P(SparseRefusalTest, OfAnotherBackendsSelection) {
  ForeignSelection foreign;
  EXPECT_EQ(CodeOf([&] { backend_->IndexRows(foreign, kChunk.position, kChunk.rows); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { Attend(foreign, batch_->sequences[0]); }), ErrorCode::kInvalidArgument);
}

LONGSHADOW_ON_EVERY_BACKEND(SparseRefusalTest);

}  // namespace
}  // namespace longshadow::conformance

#include "test/conformance/sparse_support.h"

#include <algorithm>
#include <set>
#include <span>

#include "longshadow/sparse_selection.h"

namespace longshadow::conformance {
namespace {

std::int64_t EntryOf(const SparseIndex& index, std::int32_t head, std::int64_t block) {
  return head * index.blocks + block;
}

std::span<const KeyRange> RangesOf(const SparseIndex& index, std::int64_t entry) {
  const auto at = static_cast<std::size_t>(entry);
  return {index.ranges.data() + index.range_offsets[at],
          index.ranges.data() + index.range_offsets[at + 1]};
}

std::span<const std::uint32_t> ColumnsOf(const SparseIndex& index, std::int64_t entry) {
  const auto at = static_cast<std::size_t>(entry);
  return {index.columns.data() + index.column_offsets[at],
          index.columns.data() + index.column_offsets[at + 1]};
}

std::int64_t TilesFor(std::int64_t keys) { return (keys + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

std::vector<std::uint32_t> RandomLines(std::mt19937_64& generator, std::int64_t count,
                                       std::int64_t end) {
  std::set<std::uint32_t> lines;
  while (static_cast<std::int64_t>(lines.size()) < std::min(count, end)) {
    lines.insert(static_cast<std::uint32_t>(generator() % static_cast<std::uint64_t>(end)));
  }
  return {lines.begin(), lines.end()};
}

HeadSelection RandomLineHead(std::mt19937_64& generator, const Sequence& chunk,
                             std::int64_t columns, std::int64_t distances) {
  const std::int64_t end = chunk.position + chunk.rows;
  HeadSelection head;
  head.form = HeadSelection::Form::kLines;
  head.columns = RandomLines(generator, columns, end);
  head.distances = RandomLines(generator, distances, end);
  if (head.distances.empty() || head.distances.front() != 0) {
    head.distances.insert(head.distances.begin(), 0U);
  }
  return head;
}

HeadSelection RandomBlockHead(std::mt19937_64& generator, const Sequence& chunk,
                              std::int64_t sparsity) {
  HeadSelection head;
  head.form = HeadSelection::Form::kBlocks;
  head.block_offsets = {0};
  const std::int64_t first = chunk.position / kBlockTokens;
  for (std::int64_t i = 0; i < TilesFor(chunk.rows); ++i) {
    for (std::int64_t block = 0; block < first + i; ++block) {
      if (generator() % static_cast<std::uint64_t>(sparsity) == 0) {
        head.blocks.push_back(static_cast<std::uint32_t>(block));
      }
    }
    head.blocks.push_back(static_cast<std::uint32_t>(first + i));
    head.block_offsets.push_back(static_cast<std::int64_t>(head.blocks.size()));
  }
  return head;
}

HeadSelection MixedHead(std::mt19937_64& generator, const Sequence& chunk, std::int64_t number) {
  switch (number % 5) {
    case 0:
      return RandomLineHead(generator, chunk, 100, 4);
    case 1:
      return RandomBlockHead(generator, chunk, 4);
    case 2:
      return {};
    case 3:
      return AShapeSelection({HeadPattern::kAShape, 10, 70, 0}, chunk.position + chunk.rows);
    default:  // columns that fill more than one tile, each row's own key besides
      return RandomLineHead(generator, chunk, 300, 0);
  }
}

KeySelection MixedSelection(std::mt19937_64& generator, const Batch& b) {
  const Sequence chunk{b.sequences[0].position, b.sequences[0].rows};
  KeySelection selection{chunk.position, chunk.rows, {}};
  for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
    selection.heads.push_back(MixedHead(generator, chunk, head));
  }
  return selection;
}

std::vector<std::int64_t> KeysOfEntry(const SparseIndex& index, std::int32_t head,
                                      std::int64_t block) {
  const std::int64_t entry = EntryOf(index, head, block);
  std::vector<std::int64_t> keys;
  for (const KeyRange& range : RangesOf(index, entry)) {
    for (std::int64_t key = range.begin; key < range.end; ++key) keys.push_back(key);
  }
  for (const std::uint32_t column : ColumnsOf(index, entry)) keys.push_back(column);
  std::ranges::sort(keys);
  return keys;
}

std::int64_t TilesOfEntry(const SparseIndex& index, std::int32_t head, std::int64_t block) {
  const std::int64_t entry = EntryOf(index, head, block);
  std::int64_t tiles = TilesFor(static_cast<std::int64_t>(ColumnsOf(index, entry).size()));
  for (const KeyRange& range : RangesOf(index, entry)) tiles += TilesFor(range.end - range.begin);
  return tiles;
}

std::int64_t KeysOfHead(const SparseIndex& index, std::int32_t head) {
  std::int64_t keys = 0;
  for (std::int64_t block = 0; block < index.blocks; ++block) {
    keys += static_cast<std::int64_t>(KeysOfEntry(index, head, block).size());
  }
  return keys;
}

Matrix AttendSparse(Backend& backend, const Batch& b, SparseSelection& selection,
                    const Slice& slice) {
  const SequenceRows& whole = b.sequences[0];
  const SequenceRows rows{whole.row_begin + slice.begin, slice.rows, whole.position + slice.begin,
                          whole.pages};
  Matrix out(b.q.dtype(), b.q.rows(), b.q.cols());
  backend.IndexRows(selection, rows.position, rows.rows);
  backend.SparseAttention(b.q.View(), b.shape, b.geometry, 1, rows, selection, out.View());
  backend.Synchronize();
  return out;
}

Matrix AttendSparse(Backend& backend, const Batch& b, const KeySelection& selection) {
  const auto uploaded = backend.UploadSelection(selection, b.shape.query_heads);
  return AttendSparse(backend, b, *uploaded, {0, selection.rows});
}

void CheckSparse(const Batch& b, const SparseIndex& index, const Slice& slice, const Matrix& out,
                 std::int64_t samples) {
  std::int64_t wrong = 0;
  const std::int64_t step =
      std::max<std::int64_t>(1, (slice.rows - 1) / std::max<std::int64_t>(1, samples - 1));
  for (std::int64_t row = slice.rows - 1; row >= 0; row = row > 0 && row < step ? 0 : row - step) {
    const std::int64_t block = row / kBlockTokens;
    for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
      const auto keys = KeysOfEntry(index, head, block);
      const auto visible = static_cast<std::size_t>(
          std::ranges::upper_bound(keys, index.position + row) - keys.begin());
      ASSERT_GT(visible, 0U) << "row " << row << " of head " << head << " sees nothing";
      const RowHead at{0, slice.begin + row, head};
      const Exact exact =
          ExactAttention(b, at, std::span(keys).first(visible), TilesOfEntry(index, head, block));
      wrong += CountWrong(b, at, exact, out, b.sequences[0].row_begin + slice.begin + row);
    }
  }
  EXPECT_EQ(wrong, 0) << "head_dim " << b.shape.head_dim << ", kv heads " << b.shape.kv_heads
                      << ", group " << b.shape.query_heads / b.shape.kv_heads << ", dtype "
                      << static_cast<int>(b.q.dtype()) << ", rows [" << index.position << ", +"
                      << slice.rows << ")";
}

ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

}  // namespace longshadow::conformance

#include <algorithm>
#include <string>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"
#include "sparse/cut_lines.h"

namespace longshadow {
namespace {

/// Key blocks of query block `block`, neighbours joined, cut at the key `end`.
void BlocksToKeys(const HeadSelection& head, std::int64_t block, std::int64_t end,
                  std::vector<KeyRange>& ranges) {
  const std::size_t first = ranges.size();
  for (std::int64_t i = head.block_offsets[block]; i < head.block_offsets[block + 1]; ++i) {
    const std::int64_t begin = head.blocks[i] * kBlockTokens;
    const auto stop = static_cast<std::uint32_t>(std::min(begin + kBlockTokens, end));
    if (ranges.size() > first && ranges.back().end == begin) {
      ranges.back().end = stop;
    } else {
      ranges.push_back({static_cast<std::uint32_t>(begin), stop});
    }
  }
}

void CheckRows(const KeySelection& selection, std::int64_t position, std::int64_t rows) {
  const std::int64_t end = selection.position + selection.rows;
  if (position % kBlockTokens == 0 && position >= selection.position && rows > 0 &&
      rows <= end - position) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "sparse index: rows [" + std::to_string(position) + ", +" + std::to_string(rows) +
                  ") must begin at a multiple of " + std::to_string(kBlockTokens) +
                  " and lie in the selection's chunk [" + std::to_string(selection.position) +
                  ", " + std::to_string(end) + ")");
}

/// The runs of one head's distances. They are the same for every query block but for where they
/// begin, once the block lies beyond the farthest distance; so they are made once.
class HeadRuns {
 public:
  explicit HeadRuns(const HeadSelection& head) : head_(head) {
    if (head.form != HeadSelection::Form::kLines || head.distances.empty()) return;
    far_ = head.distances.back();
    runs_ = RunsOfDistances(head.distances, far_);
  }

  void AppendKeys(std::int64_t block, std::int64_t position, std::int64_t rows,
                  SparseIndex& index) const {
    if (far_ < 0 || position < far_) {
      KeysOfBlock(head_, block, position, rows, index.ranges, index.columns);
    } else {
      CutLines(runs_, position - far_, head_.columns, position, rows, index.ranges, index.columns);
    }
  }

 private:
  const HeadSelection& head_;
  std::int64_t far_ = -1;  // -1: no runs
  std::vector<KeyRange> runs_;
};

}  // namespace

void KeysOfBlock(const HeadSelection& head, std::int64_t block, std::int64_t position,
                 std::int64_t rows, std::vector<KeyRange>& ranges,
                 std::vector<std::uint32_t>& columns) {
  switch (head.form) {
    case HeadSelection::Form::kDense:
      ranges.push_back({0, static_cast<std::uint32_t>(position + rows)});
      return;
    case HeadSelection::Form::kLines:
      LinesToKeys(head, position, rows, ranges, columns);
      return;
    case HeadSelection::Form::kBlocks:
      BlocksToKeys(head, block, position + rows, ranges);
      return;
  }
}

SparseIndex BuildIndex(const KeySelection& selection, std::int64_t position, std::int64_t rows) {
  CheckRows(selection, position, rows);
  SparseIndex index;
  index.position = position;
  index.rows = rows;
  index.blocks = (rows + kBlockTokens - 1) / kBlockTokens;
  index.range_offsets = {0};
  index.column_offsets = {0};
  const std::int64_t first_block = (position - selection.position) / kBlockTokens;
  for (const HeadSelection& head : selection.heads) {
    const HeadRuns runs(head);
    for (std::int64_t b = 0; b < index.blocks; ++b) {
      const std::int64_t begin = b * kBlockTokens;
      runs.AppendKeys(first_block + b, position + begin, std::min(kBlockTokens, rows - begin),
                      index);
      index.range_offsets.push_back(static_cast<std::int64_t>(index.ranges.size()));
      index.column_offsets.push_back(static_cast<std::int64_t>(index.columns.size()));
    }
  }
  return index;
}

}  // namespace longshadow

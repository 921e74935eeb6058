#include <string>

#include "longshadow/error.h"
#include "longshadow/sparse_selection.h"

namespace longshadow {
namespace {

/// Keys have 32-bit numbers, and a run of tiles may pass the last key by less than a tile.
constexpr std::int64_t kMostKeys = (INT64_C(1) << 32) - kBlockTokens;

[[noreturn]] void Refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, what);
}

void CheckField(std::size_t head, const char* field, std::int64_t value, std::int64_t least) {
  if (value >= least) return;
  Refuse("budget of head " + std::to_string(head) + ": " + field + " must be at least " +
         std::to_string(least) + ", got " + std::to_string(value));
}

/// Numbers that ascend below `limit`. `of_limit` says what it is.
void CheckNumbers(const std::string& name, std::span<const std::uint32_t> numbers,
                  std::int64_t limit, const char* of_limit) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0 && numbers[i] <= numbers[i - 1]) {
      Refuse(name + " must ascend, entry " + std::to_string(i) + " does not");
    }
  }
  if (!numbers.empty() && numbers.back() >= limit) {
    Refuse(name + " must be below " + std::to_string(limit) + ", " + of_limit + ", got " +
           std::to_string(numbers.back()));
  }
}

void CheckBlocks(const std::string& name, const HeadSelection& head, std::int64_t first,
                 std::int64_t query_blocks) {
  const auto& offsets = head.block_offsets;
  if (static_cast<std::int64_t>(offsets.size()) != query_blocks + 1 || offsets.front() != 0 ||
      offsets.back() != static_cast<std::int64_t>(head.blocks.size())) {
    Refuse(name + "block_offsets must be " + std::to_string(query_blocks + 1) +
           " offsets from 0 to the number of blocks");
  }
  for (std::int64_t i = 0; i < query_blocks; ++i) {
    // An offset out of order shows here before it is followed: the last one is the blocks' number.
    if (offsets[i] < 0 || offsets[i] >= offsets[i + 1] || offsets[i + 1] > offsets.back()) {
      Refuse(name +
             "block_offsets must ascend, with a block for each query block; see query block " +
             std::to_string(i));
    }
    const std::span<const std::uint32_t> blocks(head.blocks.data() + offsets[i],
                                                head.blocks.data() + offsets[i + 1]);
    const std::string place = name + "blocks of query block " + std::to_string(i);
    CheckNumbers(place, blocks, first + i + 1, "the block after its own");
    if (blocks.back() != first + i) Refuse(place + " must end with its own block");
  }
}

void CheckHead(const KeySelection& selection, std::size_t number) {
  const HeadSelection& head = selection.heads[number];
  const std::string name = "selection of head " + std::to_string(number) + ": ";
  const std::int64_t keys = selection.position + selection.rows;
  switch (head.form) {
    case HeadSelection::Form::kDense:
      return;
    case HeadSelection::Form::kLines:
      CheckNumbers(name + "columns", head.columns, keys, "the chunk's end");
      CheckNumbers(name + "distances", head.distances, keys, "the chunk's end");
      if (head.distances.empty() || head.distances.front() != 0) {
        Refuse(name + "distances must contain 0, so that each row sees its own key");
      }
      return;
    case HeadSelection::Form::kBlocks:
      CheckBlocks(name, head, selection.position / kBlockTokens,
                  (selection.rows + kBlockTokens - 1) / kBlockTokens);
      return;
  }
  Refuse(name + "unknown form " + std::to_string(static_cast<int>(head.form)));
}

}  // namespace

void CheckBudgets(std::span<const HeadBudget> budgets) {
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    const HeadBudget& budget = budgets[i];
    if (static_cast<std::int32_t>(budget.pattern) >= kHeadPatterns) {
      Refuse("budget of head " + std::to_string(i) + ": unknown pattern " +
             std::to_string(static_cast<int>(budget.pattern)));
    }
    CheckField(i, "columns", budget.columns, 0);
    CheckField(i, "distances", budget.distances, budget.pattern == HeadPattern::kAShape ? 1 : 0);
    const bool needs_tiles =
        budget.pattern == HeadPattern::kBlockSparse || budget.pattern == HeadPattern::kKeyBounds;
    CheckField(i, "tiles", budget.tiles, needs_tiles ? 1 : 0);
  }
}

void CheckSelection(const KeySelection& selection, std::int32_t query_heads) {
  if (static_cast<std::int64_t>(selection.heads.size()) != query_heads) {
    Refuse("selection must have " + std::to_string(query_heads) + " heads, got " +
           std::to_string(selection.heads.size()));
  }
  if (selection.position < 0 || selection.position % kBlockTokens != 0) {
    Refuse("selection: position must be a multiple of " + std::to_string(kBlockTokens) + ", got " +
           std::to_string(selection.position));
  }
  if (selection.rows < 1 || selection.rows > kMostKeys - selection.position) {
    Refuse("selection: rows must be at least 1, and its last key below " +
           std::to_string(kMostKeys) + "; got " + std::to_string(selection.rows) + " from " +
           std::to_string(selection.position));
  }
  for (std::size_t i = 0; i < selection.heads.size(); ++i) CheckHead(selection, i);
}

}  // namespace longshadow

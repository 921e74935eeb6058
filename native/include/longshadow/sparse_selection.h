#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "longshadow/sparse_prefill.h"

/// The device-free middle of sparse prefill: from scores to lines, from lines to runs of keys.
/// Backends on the host use it as it is; a device backend implements the same rules.
namespace longshadow {

/// Positions of the `count` largest scores, ascending; all when there are fewer. Of equal scores
/// the lower position is taken; 0 and -0 are equal. NaN counts as less than any number. Linear in
/// scores (radix select).
std::vector<std::uint32_t> LargestScores(std::span<const float> scores, std::int64_t count);

/// Refuses what no pattern may be asked for: a negative field, an unknown pattern, an A-shape
/// without distances, block-sparse or key-bounds without tiles. Throws kInvalidArgument naming the
/// head and the field.
void CheckBudgets(std::span<const HeadBudget> budgets);

/// Columns [0, budget.columns) and distances [0, budget.distances), as far as `keys` go. With
/// tiles, what a query block sees costs no more than these: its own tile first, then columns (64 to
/// a tile), then near keys in whole tiles.
HeadSelection AShapeSelection(const HeadBudget& budget, std::int64_t keys);

/// Vertical-slash: of the largest columns (at most budget.columns, never fewer than
/// kForcedColumns) and distances (at most budget.distances, never fewer than kForcedDistances),
/// those that fit budget.tiles together: prefixes of both orders by score, whose sum of scores is
/// the largest among those that cost no more than budget.tiles tiles for a query block. A column
/// costs 1/64 tile; diagonals cost the runs that LinesToKeys makes of them (SlashTiles, exactly).
/// Forced lines are taken first and count: together 4 tiles, 3 of the nearest keys and part of one
/// of the first. Under that the head has exactly the forced lines, whatever its tiles. Of equal
/// sums the one with most distances, and then most columns, is taken. Scores are masses: one that
/// is not positive adds nothing to a sum. Fields of the budget must not be negative.
///
/// Larger limits are as those that the keys and the tiles can hold. Beyond 32,768 distances (more
/// than published patterns have) not every number of them is tried, but one in 256, so that the
/// time stays near linear: the sum may then miss the largest by that share.
HeadSelection ChooseLines(std::span<const float> vertical, std::span<const float> slash,
                          const HeadBudget& budget);

/// kVerticalSlash by its estimate: ChooseLines, but dense where a score is NaN, so that what is not
/// a number shows as in dense attention. That is the rule of every pattern that looks at scores;
/// A-shape looks at none, and a NaN shows where its own keys have one.
HeadSelection VerticalSlashSelection(const LineScores& scores, const HeadBudget& budget);

/// Runs of keys that ascending distances cover for the query block whose first row is `position` (a
/// multiple of kBlockTokens): MInference's rule (arXiv:2407.02490, appendix C.4). A distance covers
/// the 64 keys that end where the block's last row meets it; runs that touch or overlap are merged
/// to a whole number of tiles, so that a run may pass the block's last row.
std::vector<KeyRange> RunsOfDistances(std::span<const std::uint32_t> distances,
                                      std::int64_t position);

/// Tiles of RunsOfDistances far from the sequence's start: what the distances cost a query block.
std::int64_t SlashTiles(std::span<const std::uint32_t> distances);

/// The keys of the query block whose first row is at `position` and which has `rows` rows, for a
/// head of form kLines, appended as SparseIndex wants them: RunsOfDistances cut at position + rows,
/// and the columns before `position` that lie in none of the runs.
void LinesToKeys(const HeadSelection& head, std::int64_t position, std::int64_t rows,
                 std::vector<KeyRange>& ranges, std::vector<std::uint32_t>& columns);

/// Keys of a query block of a head of any form, as LinesToKeys. `block`: its number in the chunk.
void KeysOfBlock(const HeadSelection& head, std::int64_t block, std::int64_t position,
                 std::int64_t rows, std::vector<KeyRange>& ranges,
                 std::vector<std::uint32_t>& columns);

/// The index of rows [position, position + rows) of a selection's chunk, which must keep
/// CheckSelection's rules. Throws kInvalidArgument where the rows do not lie in the chunk or do not
/// begin at a multiple of kBlockTokens.
SparseIndex BuildIndex(const KeySelection& selection, std::int64_t position, std::int64_t rows);

/// Throws kInvalidArgument where a selection breaks KeySelection's rules or has not `query_heads`
/// heads, or lets a row see no key (lines without distance 0, a query block without its own): what
/// comes from outside is checked before a kernel follows it.
void CheckSelection(const KeySelection& selection, std::int32_t query_heads);

/// Throws kInvalidArgument unless the index is of these rows and heads and no entry leads a kernel
/// past its query block: offsets ascend to the number of ranges and columns, ranges and columns lie
/// where SparseIndex says. What ascends inside an entry is left to BuildIndex.
void CheckIndex(const SparseIndex& index, std::int64_t position, std::int64_t rows,
                std::int32_t query_heads);

/// A selection in host memory: that of `reference` and `cpu`.
class HostSelection final : public SparseSelection {
 public:
  explicit HostSelection(KeySelection selection);
  KeySelection ToHost() const override { return keys; }
  SparseIndex IndexToHost() const override { return index; }
  std::vector<std::int64_t> AttendedKeys() const override { return attended_keys; }

  /// Adds the index's keys to attended_keys: its rows have been attended.
  void CountAttended();

  /// The selection as one in host memory. Throws kInvalidArgument for another backend's.
  static HostSelection& Of(SparseSelection& selection);

  KeySelection keys;
  SparseIndex index;
  std::vector<std::int64_t> attended_keys;  // [query heads]
};

}  // namespace longshadow

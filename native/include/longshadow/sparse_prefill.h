#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace longshadow {

/// Keys, or query rows, of one tile of sparse attention. Blocks lie at multiples of it by absolute
/// position.
inline constexpr std::int64_t kBlockTokens = 64;
/// Queries that the estimate looks at: the last ones of a chunk (MInference,
/// arXiv:2407.02490, 3.2).
inline constexpr std::int64_t kEstimateRows = 64;
/// Columns from key 0 on, and distances from 0 on, that every vertical-slash head has.
inline constexpr std::int64_t kForcedColumns = 30;
inline constexpr std::int64_t kForcedDistances = 100;

/// How a query head chooses its keys.
enum class HeadPattern : std::uint8_t {
  kDense,
  kAShape,         // the first keys and the nearest ones; nothing is estimated
  kVerticalSlash,  // columns and diagonals, estimated from the chunk's last queries
  kBlockSparse,    // key blocks of each query block, by pooled queries and keys
  kFlex,           // FlexPrefill (arXiv:2502.20766): block-sparse or vertical-slash, budget by mass
  kKeyBounds,      // key blocks of each query block, by single queries and bounds of few keys
};
inline constexpr std::int32_t kHeadPatterns = 6;

/// One query head's pattern with its limits. All limits are of keys that a block of 64 queries
/// sees; what is forced (sinks, near keys, diagonal) counts against them.
struct HeadBudget {
  HeadPattern pattern = HeadPattern::kDense;
  /// kAShape: first keys. kVerticalSlash: most columns.
  std::int64_t columns = 0;
  /// kAShape: nearest keys. kVerticalSlash: most diagonals.
  std::int64_t distances = 0;
  /// Most key tiles (64 keys) of a query block, filled by score; 0: no limit but the lines'.
  /// kBlockSparse, kKeyBounds: its key blocks. kFlex: its most.
  std::int64_t tiles = 0;
};

/// FlexPrefill's parameters (section 3 there).
struct FlexOptions {
  float gamma = 0.95F;         // share of the attention mass to cover
  float tau = 0.1F;            // most distance of pooled to true attention of a query-aware head
  std::int64_t min_tiles = 8;  // of a query block
};

/// A prefill policy as the engine runs it, resolved: nothing here depends on the host.
struct SparsePolicy {
  /// A chunk that ends at or before this position is dense.
  std::int64_t dense_below_tokens = 0;
  std::vector<HeadBudget> heads;  // [layers of the stage][query heads]
  FlexOptions flex;
  /// One of so many (chunk, layer) pairs has a query block computed densely too; 0: none.
  std::int32_t guard_interval = 0;
};

/// The keys of one query head, before they are cut by query block.
struct HeadSelection {
  enum class Form : std::uint8_t { kDense, kLines, kBlocks };
  Form form = Form::kDense;
  /// kLines. Row p sees key c for every column c <= p, and key p - d for every distance d <= p.
  std::vector<std::uint32_t> columns;    // ascending
  std::vector<std::uint32_t> distances;  // ascending
  /// kBlocks. Query block i of the chunk sees the key blocks [offsets[i], offsets[i + 1]).
  std::vector<std::int64_t> block_offsets;  // [query blocks + 1]
  std::vector<std::uint32_t> blocks;        // numbers of key blocks, ascending in a query block
};

/// What a chunk's query heads see in one layer, in a form that tests and tools can read.
struct KeySelection {
  std::int64_t position = 0;         // of the chunk's first row, a multiple of kBlockTokens
  std::int64_t rows = 0;             // of the chunk
  std::vector<HeadSelection> heads;  // [query heads]
};

/// Keys [begin, end) of a query block.
struct KeyRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool operator==(const KeyRange&) const = default;
};

/// The keys of query blocks as kernels take them: runs of keys and single columns, in CSR. Entry
/// e = head * blocks + block. Offsets are 64-bit: 1M tokens x 32 heads pass 2^32 entries.
///
///   * ranges of an entry ascend, do not overlap, and end at most at the block's last visible key:
///     those that reach past the block's first row need the causal mask;
///   * columns of an entry ascend, lie before the block's first row (no mask) and in no range.
struct SparseIndex {
  std::int64_t position = 0;  // of the first block's first row
  std::int64_t rows = 0;
  std::int64_t blocks = 0;                  // ceil(rows / 64)
  std::vector<std::int64_t> range_offsets;  // [heads * blocks + 1]
  std::vector<KeyRange> ranges;
  std::vector<std::int64_t> column_offsets;  // [heads * blocks + 1]
  std::vector<std::uint32_t> columns;
};

/// A backend's selection for one layer of one chunk; lives in the backend's memory.
class SparseSelection {
 public:
  virtual ~SparseSelection() = default;
  /// A copy on the host. Waits for the backend.
  virtual KeySelection ToHost() const = 0;
  /// The index of the last IndexRows, as a copy on the host. Waits for the backend.
  virtual SparseIndex IndexToHost() const = 0;
  /// By query head: keys that its query blocks attended to since the selection was made (a block of
  /// 64 queries that sees 128 keys counts 128). Waits for the backend.
  virtual std::vector<std::int64_t> AttendedKeys() const = 0;
};

/// Masses that the estimate gives to columns and diagonals of one query head: with A the causal
/// softmax of the estimate's rows (positions [begin, begin + n)) over keys [0, begin + n),
///   vertical[c] = sum over rows of A[i, c],  slash[d] = sum over rows of A[i, begin + i - d].
struct LineScores {
  std::span<float> vertical;  // [begin + n]
  std::span<float> slash;     // [begin + n]
};

/// What attention of a chunk did under a sparse policy. Keys are those of query blocks: a block of
/// 64 queries that sees 128 keys counts 128. By pattern and by layer the same keys are summed, over
/// every row, layer and query head of the chunk: dense rows, layers and chunks count, as kDense
/// whatever their heads' patterns, with as many keys attended as causal.
struct SparseStats {
  std::int64_t attended_keys[kHeadPatterns] = {};  // by pattern
  std::int64_t causal_keys[kHeadPatterns] = {};    // what dense attention would have seen
  std::vector<std::int64_t> layer_attended_keys;   // [layers of the stage]
  std::vector<std::int64_t> layer_causal_keys;     // [layers of the stage]
  /// Of sparse layers alone, from here on.
  std::int64_t estimate_micros = 0;  // scores and selection
  std::int64_t index_micros = 0;
  std::int64_t attention_micros = 0;
  /// The guard's query blocks (one query head each): relative L2 error |sparse - dense| / |dense|.
  std::int64_t guard_blocks = 0;
  double guard_error_sum = 0;
  double guard_error_max = 0;
};

}  // namespace longshadow

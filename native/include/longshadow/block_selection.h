#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "longshadow/cancellation.h"
#include "longshadow/sparse_prefill.h"

/// The device-free middle of the patterns that choose whole key blocks: kBlockSparse, kKeyBounds,
/// and kFlex (FlexPrefill, arXiv:2502.20766). Backends on the host use it as it is; a device
/// backend implements the same rules. All of it is deterministic; of equal scores the lower index
/// wins.
///
/// FlexPrefill's paper has blocks of 128 and takes the last 128 queries as the block that stands
/// for all; here blocks have kBlockTokens = 64 keys, and the last min(64, rows) queries stand for
/// all, so that one estimate (Backend::EstimateLines) serves every pattern.
namespace longshadow {

/// Rows of a chunk in query blocks. Both numbers of blocks count from 0: key blocks from key 0 on,
/// query blocks from the chunk's first row on.
struct ChunkBlocks {
  std::int64_t position = 0;  // of the chunk's first row, a multiple of kBlockTokens
  std::int64_t rows = 0;      // at least 1

  std::int64_t Queries() const { return (rows + kBlockTokens - 1) / kBlockTokens; }
  /// Key blocks so far, the chunk's own included.
  std::int64_t Keys() const { return position / kBlockTokens + Queries(); }
  /// Key blocks that query block i sees, its own the last of them.
  std::int64_t Visible(std::int64_t i) const { return position / kBlockTokens + i + 1; }
};

/// Takes query block i's scores of the key blocks [0, Visible(i)); they end with the call.
using VisitBlockRow = std::function<void(std::int64_t i, std::span<const float> scores)>;
/// Calls the visitor for every query block, ascending. Each call gives the same bits; nothing
/// needs more than a few rows at a time.
using BlockRows = std::function<void(const VisitBlockRow& visit)>;

/// kBlockSparse: of each query block, the `tiles` key blocks (at least 1) of largest score; block 0
/// and the query block's own are among them (its own alone where tiles is 1). A head that has a NaN
/// score is dense.
HeadSelection LargestBlocks(const ChunkBlocks& chunk, const BlockRows& scores, std::int64_t tiles);

/// kKeyBounds. With lo and hi the least and the greatest element of some keys by dimension, none of
/// them gives query q a larger logit than
///   u(q, keys) = scale * sum over d of max(q_d lo_d, q_d hi_d)
/// (as Quest, arXiv:2406.10774, bounds pages of keys in decode). Unlike a mean, a bound shows one
/// key that stands out. Every 4th query of a block is scored, in two steps:
///   * against whole key blocks: score(b) = max over queries of u(q, b) - ln sum of e^u over the
///     visible ones. The largest BoundCandidates are candidates; where there are no more, all;
///   * against groups of 16 keys of the candidates: score(b) = max over queries and b's groups of
///     u(q, group) - ln sum over the candidates' groups of e^u. The `tiles` largest are taken, but
///     none below kLeastBound behind the first kLeastTiles: of no query would it have a share worth
///     its cost. Where all are faint, as for a head that looks everywhere alike, those first stay.
/// In both, block 0 and the query block's own are among them. A query block that sees no more than
/// `tiles` blocks takes them all. A key that is not finite makes the head dense.
inline constexpr std::int64_t kBoundKeys = 16;
inline constexpr std::int64_t kBoundQueryStride = 4;
inline constexpr std::int64_t kBoundGroups = kBlockTokens / kBoundKeys;
inline constexpr std::int64_t kBoundQueries = kBlockTokens / kBoundQueryStride;

/// A share of e^-5, or 0.7 %, of what the bounds of a query's candidates sum to.
inline constexpr float kLeastBound = -5;
/// As many keys as FlexPrefill (arXiv:2502.20766) leaves a query at least: 1,024.
inline constexpr std::int64_t kLeastTiles = 16;

/// Key blocks that a head with a budget of so many tiles looks at closely.
inline std::int64_t BoundCandidates(std::int64_t tiles) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;  // times 2 is a number still
  return std::max<std::int64_t>(2 * std::min(tiles, kMost), 256);
}

/// Row of a query block of `rows` rows that kKeyBounds scores `at`-th, at in [0, kBoundQueries):
/// rows 3, 7, ...; for those that the block does not have, its last.
inline std::int64_t BoundQueryRow(std::int64_t at, std::int64_t rows) {
  return std::min((at + 1) * kBoundQueryStride, rows) - 1;
}

/// How a backend scores key blocks for query block i. A score that is NaN makes the head dense.
struct BoundScores {
  /// By whole blocks: of blocks [0, scores.size()).
  std::function<void(std::int64_t i, std::span<float> scores)> by_block;
  /// By groups: of the candidates `blocks`, ascending.
  std::function<void(std::int64_t i, std::span<const std::uint32_t> blocks,
                     std::span<float> scores)>
      by_group;
};

/// kKeyBounds by its scores, which are asked for in ascending order of i. tiles >= 1.
HeadSelection BlocksByBounds(const ChunkBlocks& chunk, const BoundScores& scores,
                             std::int64_t tiles);

/// What the estimate's rows say of a head, summed over blocks of 64 and over the rows.
struct FlexMasses {
  std::vector<float> vertical;  // [Keys()], of key blocks
  std::vector<float> slash;     // [Keys()], of distances [64 s, 64 s + 64)
  /// Blocks that hold as many keys (distances) as it takes to cover gamma of the mass.
  std::int64_t vertical_blocks = 0;
  std::int64_t slash_blocks = 0;
};

/// lines: of Backend::EstimateLines, both spans as long as the keys.
FlexMasses SumMasses(const LineScores& lines, float gamma);

/// How many of the largest masses it takes to reach `share` of their sum: with share 1, all that
/// are not zero. Linear in masses.
std::int64_t CountForMass(std::span<const float> masses, float share);

/// Jensen-Shannon distance of two distributions, sqrt(0.5 sum e ln(e/m) + 0.5 sum p ln(p/m)) with
/// m = (e + p) / 2 and 0 ln 0 = 0: from 0 to sqrt(ln 2). NaN where an input is.
double JensenShannonDistance(std::span<const float> e, std::span<const float> p);

/// FlexPrefill's choice of key blocks for a vertical-slash head: the vertical_blocks key blocks and
/// slash_blocks distance blocks of largest mass (each at least min_tiles and at most the budget),
/// key block 0 and distance block 0 among them. A key block serves every query block at or after
/// it, a distance block s the pairs (i, i - s): as in the paper, although distance 64 s + o has
/// only 64 - o of a query block's 64 pairs there, and the others in key block i - s - 1 (a lone
/// distance keeps 65/128 on average). A query block that gets more than tiles (0: no limit) keeps
/// those of largest vertical[b] + slash[i - b], with block 0 and its own. interrupt (or null) is
/// polled for each query block: kCancelled.
HeadSelection VerticalSlashBlocks(const ChunkBlocks& chunk, const FlexMasses& masses,
                                  std::int64_t min_tiles, std::int64_t tiles,
                                  const CancellationFlag* interrupt = nullptr);

/// FlexPrefill's choice for a query-aware head: the entries of largest probability over all query
/// blocks together while they sum to no more than gamma * Queries(); with them the min_tiles
/// vertical and distance blocks of VerticalSlashBlocks. A query block that gets more than tiles (0:
/// no limit) keeps its most probable ones, with block 0 and its own.
/// probabilities: rows of softmax. A head that has a NaN there is dense.
HeadSelection QueryAwareBlocks(const ChunkBlocks& chunk, const BlockRows& probabilities,
                               const FlexMasses& masses, const FlexOptions& options,
                               std::int64_t tiles);

/// What a backend measures of a kFlex head.
struct FlexEstimate {
  LineScores lines;  // of the chunk's last `line_rows` rows
  std::int64_t line_rows = 0;
  /// softmax(scale mean(those rows' queries) . mean(keys of block)), [Keys()].
  std::span<const float> pooled;
  /// Rows of softmax(scale mean(queries of block) . mean(keys of block)).
  BlockRows probabilities;
  /// Polled beside the choice (or null).
  const CancellationFlag* interrupt = nullptr;
};

/// kFlex: query-aware where the pooled estimate is nearer than tau to the true mass of key blocks,
/// else vertical-slash. A head that has a NaN in its estimate is dense.
HeadSelection FlexBlocks(const ChunkBlocks& chunk, const FlexEstimate& estimate,
                         const HeadBudget& budget, const FlexOptions& options);

/// Throws kInvalidArgument unless gamma is in (0, 1], tau is a number that is not negative, and
/// min_tiles is not negative.
void CheckFlexOptions(const FlexOptions& options);

}  // namespace longshadow

// The pattern kKeyBounds: that its key blocks are those of the largest scores by definition, in one
// step and in two, and that it finds the one key that one query looks for.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "longshadow/block_selection.h"
#include "test/conformance/sparse_chunk.h"
#include "test/conformance/sparse_support.h"
#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

class SparseKeyBounds : public BackendTest {
 protected:
  std::int64_t Below(std::int64_t limit) {
    return static_cast<std::int64_t>(generator_() % static_cast<std::uint64_t>(limit));
  }
};

/// Scores of a query block by groups of all visible blocks, and how far a backend's may be off.
struct Exact {
  std::vector<double> scores;
  double tolerance = 0;
};

/// The largest product of each dimension with any of keys [begin, begin + count), summed: no key
/// has a larger logit.
double UpperLogit(const Chunk& chunk, std::int64_t row, std::int32_t head, std::int64_t begin,
                  std::int64_t count, double* magnitude) {
  const Sizes& s = chunk.sizes;
  const std::int64_t end = std::min(begin + count, s.keys());
  double sum = 0;
  double size = 0;
  for (std::int64_t d = 0; d < s.head_dim; ++d) {
    const double query = chunk.q.At(Chunk::kRowBegin + row, head * s.head_dim + d);
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    for (std::int64_t key = begin; key < end; ++key) {
      const double value = chunk.cache.K(1, head / s.group, key, d);
      low = std::min(low, value);
      high = std::max(high, value);
    }
    sum += std::max(query * low, query * high);
    size += std::abs(query) * (std::abs(low + high) + high - low) / 2;
  }
  const auto scale = static_cast<double>(chunk.shape.scale);
  *magnitude = std::max(*magnitude, size * scale);
  return sum * scale;
}

/// Scores of `blocks` for query block i, each by its bounds of `count` keys.
Exact ExactScores(const Chunk& chunk, std::int64_t i, std::int32_t head,
                  const std::vector<std::int64_t>& blocks, std::int64_t count) {
  const Sizes& s = chunk.sizes;
  const std::int64_t first = i * kBlockTokens;
  const std::int64_t rows = std::min(kBlockTokens, s.rows - first);
  Exact exact;
  exact.scores.assign(blocks.size(), -std::numeric_limits<double>::infinity());
  double magnitude = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (row % 4 != 3 && row != rows - 1) continue;
    std::vector<double> largest = exact.scores;
    std::ranges::fill(largest, -std::numeric_limits<double>::infinity());
    double sum = 0;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const std::int64_t end = std::min((blocks[b] + 1) * kBlockTokens, s.keys());
      for (std::int64_t key = blocks[b] * kBlockTokens; key < end; key += count) {
        const double logit = UpperLogit(chunk, first + row, head, key, count, &magnitude);
        largest[b] = std::max(largest[b], logit);
        sum += std::exp(logit);
      }
    }
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      exact.scores[b] = std::max(exact.scores[b], largest[b] - std::log(sum));
    }
  }
  // A logit is a sum of 2 head_dim + 1 products of factors with up to 3 roundings each. A score is
  // off by that twice, by the exponentials and their sums of 64, and by the logarithm's rounding.
  const double logit = SumTolerance(2 * s.head_dim + 1, magnitude) + 6 * kF32Unit * magnitude;
  const auto terms = static_cast<double>(4 * blocks.size());
  exact.tolerance =
      2 * logit + kExpF32 + 66 * kF32Unit + 4 * kF32Unit * (magnitude + std::log(terms));
  return exact;
}

std::vector<std::int64_t> AllBlocks(std::int64_t end) {
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(end));
  std::iota(blocks.begin(), blocks.end(), 0);
  return blocks;
}

/// The places of the `count` largest scores, with the first and the last among them, ascending.
/// Empty where rounding could decide.
std::vector<std::size_t> Largest(const Exact& exact, std::int64_t count) {
  const std::size_t last = exact.scores.size() - 1;
  std::vector<std::size_t> order(exact.scores.size() - 2);
  std::iota(order.begin(), order.end(), 1U);
  std::ranges::sort(order, std::greater<>{}, [&](std::size_t at) { return exact.scores[at]; });
  const auto inner = static_cast<std::size_t>(count - 2);
  if (inner < order.size()) {
    const double gap = exact.scores[order[inner - 1]] - exact.scores[order[inner]];
    if (gap <= 2 * exact.tolerance) return {};
    order.resize(inner);
  }
  order.insert(order.end(), {0U, last});
  std::ranges::sort(order);
  return order;
}

/// The pattern's choice by its definition; empty where rounding could decide.
Blocks ExactChoice(const Chunk& chunk, std::int64_t i, std::int32_t head, std::int64_t tiles) {
  std::vector<std::int64_t> blocks = AllBlocks(chunk.sizes.own_block(i) + 1);
  if (std::ssize(blocks) > BoundCandidates(tiles)) {
    const Exact by_block = ExactScores(chunk, i, head, blocks, kBlockTokens);
    const auto places = Largest(by_block, BoundCandidates(tiles));
    blocks = {places.begin(), places.end()};
    if (blocks.empty()) return {};
  }
  if (chunk.sizes.own_block(i) < tiles) return {blocks.begin(), blocks.end()};
  const Exact exact = ExactScores(chunk, i, head, blocks, kBoundKeys);
  std::int64_t worth = 2;
  for (std::size_t b = 1; b + 1 < blocks.size(); ++b) {
    if (std::abs(exact.scores[b] + 5) <= exact.tolerance) return {};
    worth += exact.scores[b] > -5 ? 1 : 0;
  }
  Blocks chosen;
  for (const std::size_t at : Largest(exact, std::min(std::max<std::int64_t>(worth, 16), tiles))) {
    chosen.insert(static_cast<std::uint32_t>(blocks[at]));
  }
  return chosen;
}

TEST_P(SparseKeyBounds, AreTheLargestScores) {
  std::int64_t checked = 0;
  std::int64_t undecided = 0;
  for (int repeat = 0; repeat < 6; ++repeat) {
    const Chunk chunk(generator_, DrawSizes(generator_));
    const std::int64_t tiles = 2 + Below(24);
    const KeySelection keys = chunk.Select(*backend_, KeyBounds(tiles))->ToHost();
    for (std::int32_t head = 0; head < chunk.shape.query_heads; ++head) {
      for (std::int64_t i = 0; i < chunk.sizes.query_blocks(); ++i) {
        const Blocks expected = ExactChoice(chunk, i, head, tiles);
        (expected.empty() ? undecided : checked) += 1;
        if (expected.empty()) continue;
        EXPECT_EQ(BlocksOf(keys.heads[static_cast<std::size_t>(head)], i), expected)
            << "head " << head << ", block " << i << ", tiles " << tiles;
      }
    }
  }
  EXPECT_GT(checked, undecided);
}

/// Sizes of which every query block sees more key blocks than become candidates.
Sizes LongSizes() {
  Sizes sizes;
  sizes.position = (BoundCandidates(1) + 60) * kBlockTokens;
  sizes.rows = 150;
  sizes.kv_heads = 2;
  sizes.group = 2;
  sizes.head_dim = 24;
  return sizes;
}

TEST_P(SparseKeyBounds, AreTheLargestScoresBehindCandidates) {
  Sizes sizes = LongSizes();
  sizes.kv_heads = 1;
  sizes.group = 1;
  Chunk chunk(generator_, sizes);
  // Longer queries: so many scores are clear and so many faint that both limits bind.
  for (std::int64_t row = 0; row < chunk.q.rows(); ++row) {
    for (std::int64_t d = 0; d < sizes.head_dim; ++d)
      chunk.q.Set(row, d, 4 * static_cast<float>(chunk.q.At(row, d)));
  }
  std::int64_t checked = 0;
  std::set<std::size_t> counts;
  for (const std::int64_t tiles : {17, 128}) {
    const KeySelection keys = chunk.Select(*backend_, KeyBounds(tiles))->ToHost();
    for (std::int64_t i = 0; i < sizes.query_blocks(); ++i) {
      const Blocks expected = ExactChoice(chunk, i, 0, tiles);
      if (expected.empty()) continue;
      ++checked;
      counts.insert(expected.size());
      EXPECT_EQ(BlocksOf(keys.heads[0], i), expected) << "block " << i << ", tiles " << tiles;
    }
  }
  EXPECT_GE(checked, 3);
  EXPECT_GT(*counts.rbegin(), 17U) << "the tiles never decided";
}

TEST_P(SparseKeyBounds, OfAHeadThatLooksEverywhereAlikeAreTheLeastThatAnyHas) {
  Sizes sizes = LongSizes();
  Chunk chunk(generator_, sizes);
  for (std::int32_t kv = 0; kv < sizes.kv_heads; ++kv) {
    for (std::int64_t b = 0; b < sizes.key_blocks(); ++b) chunk.SetBlock(kv, b, 0, 1);
  }
  const KeySelection keys = chunk.Select(*backend_, KeyBounds(64))->ToHost();
  for (const HeadSelection& head : keys.heads) {
    for (std::int64_t i = 0; i < sizes.query_blocks(); ++i) {
      EXPECT_EQ(std::ssize(BlocksOf(head, i)), kLeastTiles);
    }
  }
}

TEST_P(SparseKeyBounds, OfABudgetWithoutEndAreAllThatAreVisible) {
  const Sizes sizes = LongSizes();
  const Chunk chunk(generator_, sizes);
  const KeySelection keys =
      chunk.Select(*backend_, KeyBounds(std::numeric_limits<std::int64_t>::max()))->ToHost();
  for (std::int64_t i = 0; i < sizes.query_blocks(); ++i) {
    EXPECT_EQ(std::ssize(BlocksOf(keys.heads[0], i)), sizes.own_block(i) + 1);
  }
}

TEST_P(SparseKeyBounds, AreNoneOfAKeyThatIsNotFiniteInABlockThatIsNoCandidate) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Chunk chunk(generator_, LongSizes());
    chunk.cache.SetK(1, 1, Below(chunk.sizes.position), Below(chunk.sizes.head_dim), value);
    const KeySelection keys = chunk.Select(*backend_, KeyBounds(3))->ToHost();
    for (std::size_t head = 0; head < 4; ++head) {
      EXPECT_EQ(keys.heads[head].form,
                head < 2 ? HeadSelection::Form::kBlocks : HeadSelection::Form::kDense);
    }
  }
}

TEST_P(SparseKeyBounds, DoNotDependOnThreads) {
  Sizes sizes = LongSizes();
  sizes.rows = 3000;
  const Chunk chunk(generator_, sizes);
  const KeySelection one = chunk.Select(*Open(1), KeyBounds(40))->ToHost();
  const KeySelection five = chunk.Select(*Open(5), KeyBounds(40))->ToHost();
  for (std::size_t head = 0; head < one.heads.size(); ++head) {
    EXPECT_EQ(one.heads[head].block_offsets, five.heads[head].block_offsets);
    EXPECT_EQ(one.heads[head].blocks, five.heads[head].blocks);
  }
}

TEST_P(SparseKeyBounds, AreThoseOfTheReferenceBehindCandidates) {
  const std::unique_ptr<Backend> reference = MakeBackend("reference", 1);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Sizes sizes = LongSizes();
    sizes.dtype = dtype;
    Chunk chunk(generator_, sizes);
    // Along one axis, in a random order of blocks: logits lie 1 and more apart.
    for (std::int32_t head = 0; head < chunk.shape.query_heads; ++head) {
      chunk.SetQueries(0, sizes.rows, head, 0, 1 / chunk.shape.scale);
    }
    for (std::int32_t kv = 0; kv < sizes.kv_heads; ++kv) {
      std::vector<std::int64_t> order(static_cast<std::size_t>(sizes.key_blocks()));
      std::iota(order.begin(), order.end(), 0);
      std::ranges::shuffle(order, generator_);
      for (std::int64_t b = 0; b < sizes.key_blocks(); ++b) {
        // bf16 holds whole numbers to 256.
        const auto place = static_cast<float>(order[static_cast<std::size_t>(b)]);
        chunk.SetBlock(kv, b, 0, dtype == DType::kF32 ? place : place - 160);
      }
    }
    for (const std::int64_t tiles : {3, 64, 80, 1000}) {
      const KeySelection expected = chunk.Select(*reference, KeyBounds(tiles))->ToHost();
      const KeySelection keys = chunk.Select(*backend_, KeyBounds(tiles))->ToHost();
      for (std::size_t head = 0; head < keys.heads.size(); ++head) {
        EXPECT_EQ(keys.heads[head].block_offsets, expected.heads[head].block_offsets);
        EXPECT_EQ(keys.heads[head].blocks, expected.heads[head].blocks);
      }
    }
  }
}

TEST_P(SparseKeyBounds, SeeTheOneKeyThatOneQueryLooksFor) {
  constexpr float kLooksFor = 12;
  std::int64_t found_by_means = 0;
  constexpr int kRepeats = 4;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    Chunk chunk(generator_, LongSizes());
    const Sizes& s = chunk.sizes;
    const std::int64_t key = kBlockTokens + Below(s.position - 2 * kBlockTokens);
    const std::int64_t i = Below(s.query_blocks() - 1);
    const std::int64_t row = i * kBlockTokens + 3 + 4 * Below(kBoundQueries);
    for (std::int64_t d = 0; d < s.head_dim; ++d) {
      const float value = d % 3 == 0 ? kLooksFor : 0;
      chunk.cache.SetK(1, 1, key, d, value);
      chunk.q.Set(Chunk::kRowBegin + row, 3 * s.head_dim + d, value);
    }
    const auto block = static_cast<std::uint32_t>(key / kBlockTokens);
    const auto sees = [&](const HeadBudget& budget) {
      return BlocksOf(chunk.Select(*backend_, budget)->ToHost().heads[3], i).contains(block);
    };
    EXPECT_TRUE(sees(KeyBounds(3))) << "key " << key << ", row " << row;
    found_by_means += sees(BlockSparse(3)) ? 1 : 0;
  }
  // What the pattern is for: a mean of 64 hides what one query looks for.
  EXPECT_LT(found_by_means, kRepeats);
}

LONGSHADOW_ON_EVERY_BACKEND(SparseKeyBounds);

}  // namespace
}  // namespace longshadow::conformance

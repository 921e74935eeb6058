// The pattern kKeyBounds: that its key blocks are those of the largest scores by definition, in one
// step and in two, and that it finds the one key that one query looks for.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
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

/// max over keys [begin, end) of each dimension's product, summed: no key has a larger logit.
double UpperLogit(const Chunk& chunk, std::int64_t row, std::int32_t head, std::int64_t begin,
                  double* magnitude) {
  const Sizes& s = chunk.sizes;
  const std::int64_t end = std::min(begin + kBoundKeys, s.keys());
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

Exact ExactScores(const Chunk& chunk, std::int64_t i, std::int32_t head) {
  const Sizes& s = chunk.sizes;
  const std::int64_t first = i * kBlockTokens;
  const std::int64_t rows = std::min(kBlockTokens, s.rows - first);
  Exact exact;
  exact.scores.assign(static_cast<std::size_t>(s.own_block(i) + 1),
                      -std::numeric_limits<double>::infinity());
  double magnitude = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (row % 4 != 3 && row != rows - 1) continue;
    std::vector<double> logits;
    double sum = 0;
    for (std::int64_t b = 0; b < std::min(s.keys(), (s.own_block(i) + 1) * kBlockTokens);
         b += kBoundKeys) {
      logits.push_back(UpperLogit(chunk, first + row, head, b, &magnitude));
      sum += std::exp(logits.back());
    }
    for (std::size_t g = 0; g < logits.size(); ++g) {
      double& score = exact.scores[g / 4];
      score = std::max(score, logits[g] - std::log(sum));
    }
  }
  // A logit is a sum of 2 head_dim + 1 products of factors with up to 3 roundings each. A score is
  // off by that twice, by the exponentials and their sums of 64, and by the logarithm's rounding.
  const double logit = SumTolerance(2 * s.head_dim + 1, magnitude) + 6 * kF32Unit * magnitude;
  const auto groups = static_cast<double>(4 * exact.scores.size());
  exact.tolerance =
      2 * logit + kExpF32 + 66 * kF32Unit + 4 * kF32Unit * (magnitude + std::log(groups));
  return exact;
}

TEST_P(SparseKeyBounds, AreTheLargestScores) {
  for (int repeat = 0; repeat < 6; ++repeat) {
    const Chunk chunk(generator_, DrawSizes(generator_));
    const std::int64_t tiles = 2 + Below(8);
    const KeySelection keys = chunk.Select(*backend_, KeyBounds(tiles))->ToHost();
    for (std::int32_t head = 0; head < chunk.shape.query_heads; ++head) {
      for (std::int64_t i = 0; i < chunk.sizes.query_blocks(); ++i) {
        const Exact exact = ExactScores(chunk, i, head);
        const Blocks blocks = BlocksOf(keys.heads[static_cast<std::size_t>(head)], i);
        const auto own = static_cast<std::uint32_t>(chunk.sizes.own_block(i));
        const bool sees_all = own < tiles;
        ASSERT_LE(std::ssize(blocks), tiles);
        if (sees_all) ASSERT_EQ(std::ssize(blocks), own + 1);
        double least = std::numeric_limits<double>::infinity();
        double most_left_out = -least;
        for (std::uint32_t b = 1; b < own; ++b) {
          double& side = blocks.contains(b) ? least : most_left_out;
          side = blocks.contains(b) ? std::min(side, exact.scores[b])
                                    : std::max(side, exact.scores[b]);
        }
        // A full budget leaves out the smaller ones; else only what is too faint is left out.
        if (std::ssize(blocks) == tiles) {
          ASSERT_GE(least, most_left_out - 2 * exact.tolerance)
              << "head " << head << ", block " << i;
        } else {
          ASSERT_LE(most_left_out, kLeastBound + exact.tolerance) << "head " << head << ", " << i;
        }
        if (!sees_all) ASSERT_GE(least, kLeastBound - exact.tolerance) << head << ", block " << i;
      }
    }
  }
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

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_support.h"

/// Which keys sparse attention reads, shown with values that are not numbers.
namespace longshadow::conformance {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};
const float kNan = std::nanf("");

bool AllNan(const Batch& b, const Matrix& out, std::int64_t row, std::int32_t head) {
  bool all = true;
  for (std::int64_t d = 0; d < b.shape.head_dim; ++d) {
    all &= std::isnan(out.At(row, head * b.shape.head_dim + d));
  }
  return all;
}

bool SameBits(const Batch& b, const Matrix& x, const Matrix& y, std::int64_t row,
              std::int32_t head) {
  bool same = true;
  for (std::int64_t d = 0; d < b.shape.head_dim; ++d) {
    const std::int64_t column = head * b.shape.head_dim + d;
    same &= x.At(row, column) == y.At(row, column);
  }
  return same;
}

/// Heads that leave the remainder `odd` have a NaN at `key`: their rows that see it are NaN in
/// `after`; every other row and head is as before.
void ExpectNan(const Batch& b, const SparseIndex& index, const Matrix& before, const Matrix& after,
               std::int32_t odd, std::int64_t key) {
  for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
    std::vector<std::int64_t> seen;
    for (std::int64_t row = 0; row < index.rows; ++row) {
      if (row % kBlockTokens == 0) seen = KeysOfEntry(index, head, row / kBlockTokens);
      const bool hit =
          head % 2 == odd && key <= index.position + row && std::ranges::binary_search(seen, key);
      EXPECT_EQ(AllNan(b, after, row, head), hit) << "row " << row << ", head " << head;
      EXPECT_EQ(SameBits(b, after, before, row, head), !hit) << "row " << row << ", head " << head;
    }
  }
}

/// The last element of K at `key`, in the heads that leave the remainder `odd`, is NaN for the life
/// of this object.
class BadKey {
 public:
  BadKey(Batch& b, std::int32_t odd, std::int64_t key) : batch_(b), key_(key) {
    for (std::int32_t head = odd; head < b.shape.kv_heads; head += 2) {
      saved_.emplace_back(head, static_cast<float>(b.caches[0].K(1, head, key, Last())));
      b.caches[0].SetK(1, head, key, Last(), kNan);
    }
  }
  BadKey(const BadKey&) = delete;
  BadKey& operator=(const BadKey&) = delete;
  ~BadKey() {
    for (const auto& [head, k] : saved_) batch_.caches[0].SetK(1, head, key_, Last(), k);
  }

 private:
  std::int64_t Last() const { return batch_.shape.head_dim - 1; }

  Batch& batch_;
  std::int64_t key_;
  std::vector<std::pair<std::int32_t, float>> saved_;
};

class SparseNanTest : public BackendTest {
 protected:
  /// One query head a kv head, so that what a head does not see is nobody else's.
  Batch MakeBatch(DType dtype, const Sequence& chunk, std::int32_t heads, std::int32_t dim = 64) {
    return Batch(generator_, {heads, 1, dim}, dtype, {&chunk, 1});
  }
};

/// K and V of layer 1 are NaN where a head does not see a key, for the life of this object.
class Poison {
 public:
  /// seen: [query heads], one query head a kv head.
  Poison(Batch& b, std::span<const std::set<std::int64_t>> seen) : batch_(b) {
    const std::int64_t end = b.sequences[0].position + b.sequences[0].rows;
    for (std::int32_t head = 0; head < b.shape.query_heads; ++head) {
      for (std::int64_t key = 0; key < end; ++key) {
        if (!seen[static_cast<std::size_t>(head)].contains(key)) Spoil(head, key);
      }
    }
  }
  Poison(const Poison&) = delete;
  Poison& operator=(const Poison&) = delete;
  ~Poison() {
    for (const Saved& s : saved_) {
      batch_.caches[0].SetK(1, s.head, s.key, s.d, s.k);
      batch_.caches[0].SetV(1, s.head, s.key, s.d, s.v);
    }
  }

 private:
  struct Saved {
    std::int32_t head;
    std::int64_t key, d;
    float k, v;
  };

  void Spoil(std::int32_t head, std::int64_t key) {
    PagedKv& cache = batch_.caches[0];
    for (std::int64_t d = 0; d < batch_.shape.head_dim; ++d) {
      saved_.push_back({head, key, d, static_cast<float>(cache.K(1, head, key, d)),
                        static_cast<float>(cache.V(1, head, key, d))});
      cache.SetK(1, head, key, d, kNan);
      cache.SetV(1, head, key, d, kNan);
    }
  }

  Batch& batch_;
  std::vector<Saved> saved_;
};

TEST_P(SparseNanTest, KeysThatAQueryBlockDidNotSelectMayBeNotANumber) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64, 128}) {
      Batch b = MakeBatch(dtype, {320, 200}, 5, dim);
      const KeySelection keys = MixedSelection(generator_, b);
      const auto selection = backend_->UploadSelection(keys, 5);
      const Matrix before = AttendSparse(*backend_, b, *selection, {0, 200});
      for (const Slice slice : {Slice{0, 64}, {64, 64}, {128, 64}, {192, 8}}) {
        const SparseIndex index = BuildIndex(keys, 320 + slice.begin, slice.rows);
        std::vector<std::set<std::int64_t>> seen;
        for (std::int32_t head = 0; head < 5; ++head) {
          const auto list = KeysOfEntry(index, head, 0);
          seen.emplace_back(list.begin(), list.end());
        }
        const Poison poison(b, seen);
        const Matrix after = AttendSparse(*backend_, b, *selection, slice);
        for (std::int64_t row = slice.begin; row < slice.begin + slice.rows; ++row) {
          EXPECT_TRUE(after.RowBitsEqual(row, before, row)) << "row " << row << ", dim " << dim;
        }
      }
    }
  }
}

TEST_P(SparseNanTest, KeysThatNoQueryBlockSelectedMayBeNotANumber) {
  for (const DType dtype : kDTypes) {
    Batch b = MakeBatch(dtype, {1024, 70}, 5);
    const KeySelection keys = MixedSelection(generator_, b);
    const SparseIndex index = BuildIndex(keys, 1024, 70);
    const Matrix before = AttendSparse(*backend_, b, keys);
    std::vector<std::set<std::int64_t>> seen(5);
    for (std::int32_t head = 0; head < 5; ++head) {
      for (std::int64_t block = 0; block < index.blocks; ++block) {
        for (const std::int64_t key : KeysOfEntry(index, head, block)) {
          seen[static_cast<std::size_t>(head)].insert(key);
        }
      }
    }
    const Poison poison(b, seen);
    const Matrix after = AttendSparse(*backend_, b, keys);
    for (std::int64_t row = 0; row < 70; ++row) {
      EXPECT_TRUE(after.RowBitsEqual(row, before, row)) << "row " << row;
    }
  }
}

TEST_P(SparseNanTest, ASelectedKeyThatIsNotANumberReachesEveryRowThatSeesItAndNoOther) {
  const Sequence chunk{256, 130};
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64}) {
      Batch b = MakeBatch(dtype, chunk, 5, dim);
      const KeySelection keys = MixedSelection(generator_, b);
      const SparseIndex index = BuildIndex(keys, 256, 130);
      const Matrix before = AttendSparse(*backend_, b, keys);
      // A row's own key, one more of the chunk, and the first column of the head with columns only.
      for (const std::int64_t key :
           {INT64_C(256) + 100, INT64_C(256) + 64, std::int64_t{keys.heads[4].columns.front()}}) {
        for (const std::int32_t odd : {0, 1}) {
          const BadKey bad(b, odd, key);
          ExpectNan(b, index, before, AttendSparse(*backend_, b, keys), odd, key);
        }
      }
    }
  }
}

TEST_P(SparseNanTest, AKeyThatIsNotANumberShowsAsInDenseAttentionWhereKeysAreChosen) {
  const Sequence chunk{1024, 150};
  for (const DType dtype : kDTypes) {
    // Patterns alternate over the kv heads, of which every second one is spoilt.
    Batch b = MakeBatch(dtype, chunk, 8);
    const HeadBudget lines{HeadPattern::kVerticalSlash, 30, 100, 4};
    const HeadBudget blocks{HeadPattern::kBlockSparse, 0, 0, 3};
    const HeadBudget flex{HeadPattern::kFlex, 0, 0, 3};
    const HeadBudget bounds{HeadPattern::kKeyBounds, 0, 0, 3};
    const HeadBudget budgets[] = {lines, lines, blocks, blocks, flex, flex, bounds, bounds};
    // Far from everything that is always chosen; and in the chunk, where only later rows see it.
    for (const std::int64_t key : {500, 1024 + 80}) {
      const BadKey bad(b, 1, key);
      const auto selection = backend_->SelectKeys(b.q.View(), b.shape, b.geometry, 1,
                                                  b.sequences[0], budgets, FlexOptions{});
      const KeySelection keys = selection->ToHost();
      const Matrix sparse = AttendSparse(*backend_, b, *selection, {0, 150});
      const Matrix dense = b.Run(*backend_);
      for (std::int32_t head = 0; head < 8; ++head) {
        EXPECT_EQ(keys.heads[static_cast<std::size_t>(head)].form == HeadSelection::Form::kDense,
                  head % 2 == 1)
            << "head " << head;
        for (std::int64_t row = 0; row < 150; ++row) {
          EXPECT_EQ(AllNan(b, sparse, row, head), AllNan(b, dense, row, head))
              << "row " << row << ", head " << head;
        }
      }
    }
  }
}

TEST_P(SparseNanTest, AQueryThatIsNotANumberSpoilsItsHeadAlone) {
  for (const DType dtype : kDTypes) {
    const Sequence chunk{512, 70};
    Batch b(generator_, {1, 5, 64}, dtype, {&chunk, 1});
    const KeySelection keys = MixedSelection(generator_, b);
    const Matrix before = AttendSparse(*backend_, b, keys);
    for (std::int32_t head = 0; head < 5; ++head) b.q.Set(10 + head, head * 64 + 5, kNan);
    const Matrix after = AttendSparse(*backend_, b, keys);
    for (std::int64_t row = 0; row < 70; ++row) {
      for (std::int32_t head = 0; head < 5; ++head) {
        EXPECT_EQ(AllNan(b, after, row, head), row == 10 + head) << row << ", " << head;
        EXPECT_EQ(SameBits(b, after, before, row, head), row != 10 + head) << row << ", " << head;
      }
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(SparseNanTest);

}  // namespace
}  // namespace longshadow::conformance

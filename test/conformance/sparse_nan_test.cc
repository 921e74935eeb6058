#include <algorithm>
#include <cmath>
#include <set>
#include <span>
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

/// Rows of `head` that see `key` are NaN in `after`; every other row and head is as before.
void ExpectNan(const Batch& b, const SparseIndex& index, const Matrix& before, const Matrix& after,
               std::int32_t head, std::int64_t key) {
  std::vector<std::int64_t> seen;
  for (std::int64_t row = 0; row < index.rows; ++row) {
    if (row % kBlockTokens == 0) seen = KeysOfEntry(index, head, row / kBlockTokens);
    const bool sees = key <= index.position + row && std::ranges::binary_search(seen, key);
    for (std::int32_t h = 0; h < b.shape.query_heads; ++h) {
      const bool hit = sees && h == head;
      EXPECT_EQ(AllNan(b, after, row, h), hit)
          << "row " << row << ", head " << h << ", key " << key;
      EXPECT_EQ(SameBits(b, after, before, row, h), !hit) << "row " << row << ", head " << h;
    }
  }
}

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
        for (std::int32_t head = 0; head < 5; ++head) {
          const auto k = static_cast<float>(b.caches[0].K(1, head, key, dim - 1));
          b.caches[0].SetK(1, head, key, dim - 1, kNan);
          const Matrix after = AttendSparse(*backend_, b, keys);
          b.caches[0].SetK(1, head, key, dim - 1, k);
          ExpectNan(b, index, before, after, head, key);
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

INSTANTIATE_TEST_SUITE_P(Backends, SparseNanTest, testing::Values("reference"),
                         [](const auto& backend_info) { return backend_info.param; });

}  // namespace
}  // namespace longshadow::conformance

#include <algorithm>
#include <cmath>
#include <span>

#include "longshadow/sparse_selection.h"
#include "test/conformance/sparse_support.h"

namespace longshadow::conformance {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16};

class SparseAttentionTest : public BackendTest {
 protected:
  Batch MakeBatch(const Heads& heads, DType dtype, const Sequence& chunk,
                  std::int64_t distinct_pages = 0) {
    return Batch(generator_, heads, dtype, {&chunk, 1}, distinct_pages);
  }

  /// The whole chunk in one call, against fp64 over the index's keys.
  void Check(const Batch& b, const KeySelection& selection, std::int64_t samples = 4) {
    const Matrix out = AttendSparse(*backend_, b, selection);
    CheckSparse(b, BuildIndex(selection, selection.position, selection.rows), {0, selection.rows},
                out, samples);
  }

  void CheckMixed(const Heads& heads, const Sequence& chunk, std::int64_t samples = 4,
                  std::int64_t distinct_pages = 0) {
    for (const DType dtype : kDTypes) {
      const Batch b = MakeBatch(heads, dtype, chunk, distinct_pages);
      Check(b, MixedSelection(generator_, b), samples);
    }
  }

  /// A batch and a selection in which every head has the given form.
  template <typename MakeHead>
  void CheckForm(const Heads& heads, const Sequence& chunk, const MakeHead& make) {
    for (const DType dtype : kDTypes) {
      const Batch b = MakeBatch(heads, dtype, chunk);
      KeySelection selection{chunk.position, chunk.rows, {}};
      for (std::int32_t h = 0; h < b.shape.query_heads; ++h) selection.heads.push_back(make());
      Check(b, selection);
    }
  }
};

TEST_P(SparseAttentionTest, AttendsWithEveryHeadDimensionAndGroup) {
  for (const std::int32_t dim : {40, 64, 96, 128}) {
    for (const std::int32_t group : {1, 2, 5}) CheckMixed({1, group, dim}, {320, 70}, 3);
  }
  CheckMixed({2, 3, 8}, {64, 70}, 3);
  CheckMixed({1, 1, 256}, {64, 70}, 3);
}

TEST_P(SparseAttentionTest, AttendsToRandomLines) {
  for (const auto& [columns, distances] : {std::pair{0, 0}, {1, 0}, {64, 1}, {200, 3}, {17, 12}}) {
    CheckForm({1, 2, 64}, {1024, 130}, [&] {
      return RandomLineHead(generator_, {1024, 130}, columns, distances);
    });
  }
}

TEST_P(SparseAttentionTest, AttendsToRandomBlocks) {
  for (const std::int64_t sparsity : {2, 6}) {
    CheckForm({2, 2, 64}, {1024, 130}, [&] {
      return RandomBlockHead(generator_, {1024, 130}, sparsity);
    });
  }
}

TEST_P(SparseAttentionTest, AttendsToTheFirstAndTheNearestKeys) {
  for (const auto& [first, nearest] : {std::pair{0, 1}, {1, 64}, {64, 65}, {100, 300}}) {
    const HeadBudget budget{HeadPattern::kAShape, first, nearest, 0};
    CheckForm({1, 2, 96}, {960, 100}, [&] { return AShapeSelection(budget, 1060); });
  }
}

TEST_P(SparseAttentionTest, AttendsWithRaggedRowsAtAnyChunkStart) {
  for (const std::int64_t rows : {5, 17, 63, 64, 65, 127, 128, 200}) {
    CheckMixed({1, 2, 64}, {512, rows}, 3);
  }
  for (const std::int64_t position : {0, 64, 448, 1024, 1536})
    CheckMixed({1, 3, 64}, {position, 77});
}

TEST_P(SparseAttentionTest, AttendsFarFromTheStart) {
  // Beyond 65,536 and beyond a million; columns and blocks lie all over the distance.
  for (const std::int64_t position : {131'072, 1'049'088}) {
    for (const DType dtype : kDTypes) {
      const Sequence chunk{position, 70};
      const Batch b = MakeBatch({1, 2, 64}, dtype, chunk, 2);
      KeySelection selection{position, 70, {}};
      selection.heads.push_back(RandomLineHead(generator_, chunk, 300, 5));
      selection.heads.push_back(RandomBlockHead(generator_, chunk, position / (8 * kBlockTokens)));
      Check(b, selection, 2);
    }
  }
}

TEST_P(SparseAttentionTest, EverythingSelectedIsDenseAttention) {
  const Sequence chunk{512, 130};
  HeadSelection lines = RandomLineHead(generator_, chunk, 642, 642);
  HeadSelection columns = RandomLineHead(generator_, chunk, 642, 64);
  columns.distances = AShapeSelection({HeadPattern::kAShape, 0, 64, 0}, 642).distances;
  for (const DType dtype : kDTypes) {
    const Batch b = MakeBatch({2, 2, 64}, dtype, chunk);
    const KeySelection selection{
        512, 130, {{}, lines, columns, RandomBlockHead(generator_, chunk, 1)}};
    const Matrix out = AttendSparse(*backend_, b, selection);
    for (const std::int64_t row : {0, 1, 63, 64, 100, 129}) {
      for (std::int32_t head = 0; head < 4; ++head) {
        const RowHead at{0, row, head};
        EXPECT_EQ(CountWrong(b, at, ExactAttention(b, at), out, row), 0) << row << ", " << head;
      }
    }
  }
}

TEST_P(SparseAttentionTest, AttendsToSlicesOfAChunkWithTheSameBits) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t dim : {40, 64}) {
      const Batch b = MakeBatch({1, 4, dim}, dtype, {512, 323});
      const KeySelection keys = MixedSelection(generator_, b);
      const auto selection = backend_->UploadSelection(keys, 4);
      const Matrix whole = AttendSparse(*backend_, b, *selection, {0, 323});
      for (const Slice slice :
           {Slice{0, 64}, {64, 100}, {128, 64}, {192, 128}, {320, 3}, {64, 259}}) {
        const Matrix part = AttendSparse(*backend_, b, *selection, slice);
        CheckSparse(b, BuildIndex(keys, 512 + slice.begin, slice.rows), slice, part, 2);
        for (std::int64_t row = 0; row < 323; ++row) {
          if (row >= slice.begin && row < slice.begin + slice.rows) {
            EXPECT_TRUE(part.RowBitsEqual(row, whole, row)) << "row " << row;
          } else {
            EXPECT_TRUE(std::isnan(part.At(row, 0))) << "wrote row " << row;
          }
        }
      }
    }
  }
}

TEST_P(SparseAttentionTest, TheBitsDoNotDependOnThreads) {
  const auto single = Open(1);
  const auto many = Open(3);
  for (const DType dtype : kDTypes) {
    const Batch b = MakeBatch({2, 2, 64}, dtype, {576, 200});
    const KeySelection selection = MixedSelection(generator_, b);
    const Matrix one = AttendSparse(*single, b, selection);
    const Matrix two = AttendSparse(*backend_, b, selection);
    const Matrix three = AttendSparse(*many, b, selection);
    for (std::int64_t r = 0; r < 200; ++r) {
      EXPECT_TRUE(one.RowBitsEqual(r, two, r) && one.RowBitsEqual(r, three, r)) << "row " << r;
    }
  }
}

/// The columns of a head in a row of q or of an output, as bits.
std::vector<double> HeadOf(const Batch& b, const Matrix& m, std::int64_t row, std::int32_t head) {
  std::vector<double> values;
  for (std::int64_t d = 0; d < b.shape.head_dim; ++d) {
    values.push_back(m.At(row, head * b.shape.head_dim + d));
  }
  return values;
}

/// `b` with query head order[h] as its head h, and the kv heads in their order.
Batch Reordered(std::mt19937_64& generator, const Batch& b, const Sequence& chunk,
                std::span<const std::int32_t> order) {
  const std::int32_t group = b.shape.query_heads / b.shape.kv_heads;
  Batch to(generator, {b.shape.kv_heads, group, b.shape.head_dim}, b.q.dtype(), {&chunk, 1});
  for (std::int32_t h = 0; h < b.shape.query_heads; ++h) {
    for (std::int64_t row = 0; row < chunk.rows; ++row) {
      const auto values = HeadOf(b, b.q, row, order[static_cast<std::size_t>(h)]);
      for (std::size_t d = 0; d < values.size(); ++d) {
        to.q.Set(row, h * b.shape.head_dim + static_cast<std::int64_t>(d),
                 static_cast<float>(values[d]));
      }
    }
    const std::int32_t from = b.KvHead(order[static_cast<std::size_t>(h)]);
    for (std::int64_t key = 0; key < chunk.position + chunk.rows && h % group == 0; ++key) {
      for (std::int64_t d = 0; d < b.shape.head_dim; ++d) {
        to.caches[0].SetK(1, h / group, key, d, static_cast<float>(b.caches[0].K(1, from, key, d)));
        to.caches[0].SetV(1, h / group, key, d, static_cast<float>(b.caches[0].V(1, from, key, d)));
      }
    }
  }
  return to;
}

TEST_P(SparseAttentionTest, HeadsInAnotherOrderGiveTheSameBits) {
  const Sequence chunk{512, 130};
  const std::int32_t order[] = {4, 3, 5, 1, 2, 0};  // groups of three change places, and inside too
  for (const DType dtype : kDTypes) {
    const Batch b = MakeBatch({2, 3, 64}, dtype, chunk);
    const KeySelection selection = MixedSelection(generator_, b);
    const Batch turned = Reordered(generator_, b, chunk, order);
    KeySelection turned_selection{512, 130, {}};
    for (const std::int32_t head : order) {
      turned_selection.heads.push_back(selection.heads[static_cast<std::size_t>(head)]);
    }
    const Matrix before = AttendSparse(*backend_, b, selection);
    const Matrix after = AttendSparse(*backend_, turned, turned_selection);
    for (std::int64_t row = 0; row < 130; ++row) {
      for (std::int32_t h = 0; h < 6; ++h) {
        EXPECT_EQ(HeadOf(b, after, row, h), HeadOf(b, before, row, order[h])) << row << ", " << h;
      }
    }
  }
}

LONGSHADOW_ON_EVERY_BACKEND(SparseAttentionTest);

}  // namespace
}  // namespace longshadow::conformance

#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "longshadow/backend.h"

namespace longshadow::conformance {

/// The run's seed: LONGSHADOW_TEST_SEED, else drawn afresh; printed once.
std::uint64_t Seed();

/// A generator that depends on the run's seed and the name of the current test.
std::mt19937_64 TestGenerator();

/// About normal, mean 0 and variance 1: the sum of four uniform numbers, all from one draw. Most of
/// the suite's time would go into a better one.
float Normal(std::mt19937_64& generator);

/// A matrix on the heap with room between rows (filled with NaN, to be left alone).
class Matrix {
 public:
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t padding = 3);
  static Matrix Random(std::mt19937_64& generator, DType dtype, std::int64_t rows,
                       std::int64_t cols, float scale = 1.0F, std::int64_t padding = 3);

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  DType dtype() const { return dtype_; }
  double At(std::int64_t row, std::int64_t col) const;
  void Set(std::int64_t row, std::int64_t col, float value);
  MatrixView View();
  ConstMatrixView View() const;
  /// Rows [begin, begin + count) as a view.
  ConstMatrixView Rows(std::int64_t begin, std::int64_t count) const;
  MatrixView Rows(std::int64_t begin, std::int64_t count);
  bool RowBitsEqual(std::int64_t row, const Matrix& other, std::int64_t other_row) const;

 private:
  DType dtype_;
  std::int64_t rows_, cols_, stride_;
  std::vector<std::byte> bytes_;
};

/// KV pages of one session; rows that nobody wrote are NaN, so that reading one shows.
class PagedKv {
 public:
  /// pages: how many of the table's entries are distinct memory (the table repeats them); 0: all.
  PagedKv(const KvGeometry& geometry, std::int64_t tokens, std::int64_t distinct_pages = 0);
  /// Gives a page of the table memory of its own. Before FillRandom.
  void MakeUnique(std::int64_t page);
  void FillRandom(std::mt19937_64& generator, std::int64_t tokens);
  void SetK(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d, float k);
  void SetV(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d, float v);
  KvPages pages() const { return {k_table_, v_table_}; }
  double K(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d) const;
  double V(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d) const;

 private:
  std::byte* Element(const std::vector<std::byte*>& table, std::int32_t layer, std::int32_t head,
                     std::int64_t position, std::int64_t d) const;

  KvGeometry geometry_;
  std::vector<std::vector<std::byte>> memory_;  // never shrinks: the tables point into it
  std::vector<std::byte*> k_table_, v_table_;
};

/// Runs each case on every backend by name. A forced instruction set that this CPU lacks skips.
class BackendTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;
  /// A further backend of the same kind.
  std::unique_ptr<Backend> Open(std::int32_t threads) const;
  bool IsCpu() const { return GetParam() == "cpu"; }

  std::unique_ptr<Backend> backend_;
  std::mt19937_64 generator_{TestGenerator()};
};

#define LONGSHADOW_ON_EVERY_BACKEND(suite)                                       \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, testing::Values("reference", "cpu"), \
                           [](const auto& backend_info) { return backend_info.param; })

}  // namespace longshadow::conformance

#include "test/conformance/support.h"

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <set>

#include "test/conformance/cpu_offers.h"

namespace longshadow::conformance {
namespace {

double ReadElement(const std::byte* data, DType dtype) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, data, sizeof(value));
    return value;
  }
  BFloat16 value;
  std::memcpy(&value, data, sizeof(value));
  return value.ToFloat();
}

void WriteElement(std::byte* data, DType dtype, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(data, &value, sizeof(value));
  } else {
    const BFloat16 rounded = BFloat16::FromFloat(value);
    std::memcpy(data, &rounded, sizeof(rounded));
  }
}

std::uint64_t ChooseSeed() {
  const char* given = std::getenv("LONGSHADOW_TEST_SEED");
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "LONGSHADOW_TEST_SEED=" << seed << std::endl;
  return seed;
}

std::int64_t Bytes(DType dtype) { return static_cast<std::int64_t>(DTypeBytes(dtype)); }

}  // namespace

std::uint64_t Seed() {
  static const std::uint64_t seed = ChooseSeed();
  return seed;
}

std::mt19937_64 TestGenerator() {
  const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
  const std::uint64_t name = info == nullptr ? 0 : std::hash<std::string>{}(info->name());
  return std::mt19937_64(Seed() ^ name);
}

float Normal(std::mt19937_64& generator) {
  const std::uint64_t bits = generator();
  const std::uint64_t sum =
      (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
  constexpr float kMean = 2.0F * 65535.0F;
  constexpr float kDeviation = 37837.2F;  // 65536 sqrt(4 / 12)
  return (static_cast<float>(sum) - kMean) / kDeviation;
}

Matrix::Matrix(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t padding)
    : dtype_(dtype), rows_(rows), cols_(cols), stride_(cols + padding) {
  bytes_.assign(static_cast<std::size_t>(rows * stride_ * Bytes(dtype)), std::byte{0xff});
}

Matrix Matrix::Random(std::mt19937_64& generator, DType dtype, std::int64_t rows, std::int64_t cols,
                      float scale, std::int64_t padding) {
  Matrix m(dtype, rows, cols, padding);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) m.Set(r, c, scale * Normal(generator));
  }
  return m;
}

double Matrix::At(std::int64_t row, std::int64_t col) const {
  return ReadElement(bytes_.data() + (row * stride_ + col) * Bytes(dtype_), dtype_);
}

void Matrix::Set(std::int64_t row, std::int64_t col, float value) {
  WriteElement(bytes_.data() + (row * stride_ + col) * Bytes(dtype_), dtype_, value);
}

MatrixView Matrix::View() { return {bytes_.data(), dtype_, rows_, cols_, stride_}; }
ConstMatrixView Matrix::View() const { return {bytes_.data(), dtype_, rows_, cols_, stride_}; }

ConstMatrixView Matrix::Rows(std::int64_t begin, std::int64_t count) const {
  return {bytes_.data() + begin * stride_ * Bytes(dtype_), dtype_, count, cols_, stride_};
}
MatrixView Matrix::Rows(std::int64_t begin, std::int64_t count) {
  return {bytes_.data() + begin * stride_ * Bytes(dtype_), dtype_, count, cols_, stride_};
}

bool Matrix::RowBitsEqual(std::int64_t row, const Matrix& other, std::int64_t other_row) const {
  return std::memcmp(bytes_.data() + row * stride_ * Bytes(dtype_),
                     other.bytes_.data() + other_row * other.stride_ * Bytes(dtype_),
                     static_cast<std::size_t>(cols_ * Bytes(dtype_))) == 0;
}

PagedKv::PagedKv(const KvGeometry& geometry, std::int64_t tokens, std::int64_t distinct_pages)
    : geometry_(geometry) {
  const std::int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  const std::int64_t distinct = distinct_pages > 0 ? distinct_pages : pages;
  for (std::int64_t p = 0; p < 2 * distinct; ++p) {
    memory_.emplace_back(static_cast<std::size_t>(geometry.PageBytes()), std::byte{0xff});
  }
  for (std::int64_t p = 0; p < pages; ++p) {
    k_table_.push_back(memory_[static_cast<std::size_t>(p % distinct)].data());
    v_table_.push_back(memory_[static_cast<std::size_t>(distinct + p % distinct)].data());
  }
}

void PagedKv::FillRandom(std::mt19937_64& generator, std::int64_t tokens) {
  const std::int64_t dim = geometry_.head_dim;
  std::set<std::byte*> filled;
  for (std::int64_t p = 0; p * kPageTokens < tokens; ++p) {
    const auto page = static_cast<std::size_t>(p);
    if (!filled.insert(k_table_[page]).second) continue;
    const std::int64_t rows = std::min(kPageTokens, tokens - p * kPageTokens);
    for (std::int32_t plane = 0; plane < geometry_.layers * geometry_.kv_heads; ++plane) {
      const std::int64_t offset = plane * geometry_.PlaneBytes();
      for (std::int64_t row = 0; row < rows; ++row) {
        // Some keys stand out, so that a key seen wrongly, or missed, changes the result a lot.
        const float size = generator() % 16 == 0 ? 4.0F : 1.0F;
        for (std::int64_t d = 0; d < dim; ++d) {
          const std::int64_t at = offset + (row * dim + d) * Bytes(geometry_.dtype);
          WriteElement(k_table_[page] + at, geometry_.dtype, size * Normal(generator));
          WriteElement(v_table_[page] + at, geometry_.dtype, Normal(generator));
        }
      }
    }
  }
}

void PagedKv::MakeUnique(std::int64_t page) {
  for (auto* table : {&k_table_, &v_table_}) {
    memory_.emplace_back(static_cast<std::size_t>(geometry_.PageBytes()), std::byte{0xff});
    table->at(static_cast<std::size_t>(page)) = memory_.back().data();
  }
}

std::byte* PagedKv::Element(const std::vector<std::byte*>& table, std::int32_t layer,
                            std::int32_t head, std::int64_t position, std::int64_t d) const {
  return table[static_cast<std::size_t>(position / kPageTokens)] +
         geometry_.PlaneOffset(layer, head) +
         (position % kPageTokens * geometry_.head_dim + d) * Bytes(geometry_.dtype);
}

double PagedKv::K(std::int32_t layer, std::int32_t head, std::int64_t position,
                  std::int64_t d) const {
  return ReadElement(Element(k_table_, layer, head, position, d), geometry_.dtype);
}
double PagedKv::V(std::int32_t layer, std::int32_t head, std::int64_t position,
                  std::int64_t d) const {
  return ReadElement(Element(v_table_, layer, head, position, d), geometry_.dtype);
}
void PagedKv::SetK(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d,
                   float k) {
  WriteElement(Element(k_table_, layer, head, position, d), geometry_.dtype, k);
}
void PagedKv::SetV(std::int32_t layer, std::int32_t head, std::int64_t position, std::int64_t d,
                   float v) {
  WriteElement(Element(v_table_, layer, head, position, d), geometry_.dtype, v);
}

void BackendTest::SetUp() {
  const char* forced = std::getenv("LONGSHADOW_CPU_ISA");
  if (IsCpu() && forced != nullptr && !test::CpuOffers(forced)) {
    GTEST_SKIP() << "this CPU lacks " << forced;
  }
  backend_ = Open(2);
}

std::unique_ptr<Backend> BackendTest::Open(std::int32_t threads) const {
  return MakeBackend(GetParam(), threads);
}

}  // namespace longshadow::conformance

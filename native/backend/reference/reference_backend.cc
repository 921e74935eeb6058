#include "reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "elements.h"
#include "longshadow/error.h"
#include "reference_attention.h"
#include "reference_sparse.h"

namespace longshadow {
namespace {

/// W transposed to [in, out] at the file's precision, so that the plain loops run along memory.
class ReferenceMatrix final : public PackedMatrix {
 public:
  explicit ReferenceMatrix(const ConstMatrixView& weight)
      : out_(weight.rows), in_(weight.cols), dtype_(weight.dtype) {
    data_.resize(static_cast<std::size_t>(out_ * in_) * DTypeBytes(dtype_));
    for (std::int64_t o = 0; o < out_; ++o) {
      for (std::int64_t i = 0; i < in_; ++i) {
        StoreElement(data_.data(), dtype_, i * out_ + o, static_cast<double>(At(weight, o, i)));
      }
    }
  }
  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  std::int64_t bytes() const override { return static_cast<std::int64_t>(data_.size()); }
  /// All weights of one input, widened: [out].
  void LoadInput(std::int64_t in, std::span<double> weights) const {
    LoadElements(data_.data(), dtype_, in * out_, weights);
  }

 private:
  std::int64_t out_;
  std::int64_t in_;
  DType dtype_;
  std::vector<std::byte> data_;
};

class ReferenceBackend final : public Backend {
 public:
  std::string_view Name() const override { return "reference"; }
  std::string_view InstructionSet() const override { return "generic"; }

  void* Allocate(std::int64_t bytes) override {
    constexpr std::size_t kAlignment = 64;
    const std::size_t rounded =
        (static_cast<std::size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    void* data = std::aligned_alloc(kAlignment, rounded == 0 ? kAlignment : rounded);
    if (data == nullptr) {
      throw Error(ErrorCode::kInternal, "out of memory: " + std::to_string(bytes) + " bytes");
    }
    return data;
  }
  void Free(void* data) override { std::free(data); }

  std::unique_ptr<PackedMatrix> Pack(ConstMatrixView weight, DType) override {
    return std::make_unique<ReferenceMatrix>(weight);
  }

  void MatMul(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
              bool accumulate) override {
    const auto& packed = static_cast<const ReferenceMatrix&>(weight);
    const auto out = static_cast<std::size_t>(packed.out_features());
    std::vector<double> weights(out);
    std::vector<double> sums(out * static_cast<std::size_t>(x.rows));
    for (std::int64_t i = 0; i < packed.in_features(); ++i) {
      packed.LoadInput(i, weights);
      for (std::int64_t row = 0; row < x.rows; ++row) {
        const double value = static_cast<double>(At(x, row, i));
        double* row_sums = sums.data() + static_cast<std::size_t>(row) * out;
        for (std::size_t o = 0; o < out; ++o) row_sums[o] += value * weights[o];
      }
    }
    for (std::int64_t row = 0; row < x.rows; ++row) {
      for (std::int64_t o = 0; o < packed.out_features(); ++o) {
        const double sum = sums[static_cast<std::size_t>(row) * out + static_cast<std::size_t>(o)];
        Put(y, row, o, (accumulate ? static_cast<double>(At(y, row, o)) : 0.0) + sum);
      }
    }
  }

  void Embed(ConstMatrixView table, std::span<const std::uint32_t> ids, MatrixView x) override {
    for (std::int64_t row = 0; row < x.rows; ++row) {
      const std::int64_t id = ids[static_cast<std::size_t>(row)];
      for (std::int64_t i = 0; i < x.cols; ++i) {
        Put(x, row, i, static_cast<double>(At(table, id, i)));
      }
    }
  }

  void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps,
               MatrixView out) override {
    for (std::int64_t row = 0; row < x.rows; ++row) {
      double squares = 0;
      for (std::int64_t i = 0; i < x.cols; ++i) {
        const double value = static_cast<double>(At(x, row, i));
        squares += value * value;
      }
      const double norm =
          std::sqrt(squares / static_cast<double>(x.cols) + static_cast<double>(eps));
      for (std::int64_t i = 0; i < x.cols; ++i) {
        Put(out, row, i,
            static_cast<double>(At(x, row, i)) / norm *
                static_cast<double>(weight[static_cast<std::size_t>(i)]));
      }
    }
  }

  void RopeAndStore(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
                    const KvGeometry& geometry, std::int32_t layer,
                    std::span<const SequenceRows> sequences, MatrixView q) override {
    ReferenceRopeAndStore(qkv, shape, rope, geometry, layer, sequences, q);
  }

  void Attention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                 std::int32_t layer, std::span<const SequenceRows> sequences,
                 MatrixView out) override {
    ReferenceAttention(q, shape, geometry, layer, sequences, out);
  }

  void EstimateLines(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                     std::int32_t layer, const SequenceRows& rows,
                     std::span<const std::int32_t> heads,
                     std::span<const LineScores> scores) override {
    ReferenceEstimateLines(q, shape, geometry, layer, rows, heads, scores, nullptr);
  }
  std::unique_ptr<SparseSelection> SelectKeys(ConstMatrixView q, const AttentionShape& shape,
                                              const KvGeometry& geometry, std::int32_t layer,
                                              const SequenceRows& chunk,
                                              std::span<const HeadBudget> budgets,
                                              const FlexOptions& flex,
                                              const CancellationFlag* interrupt) override {
    return ReferenceSelectKeys(q, shape, geometry, layer, chunk, budgets, flex, interrupt);
  }
  std::unique_ptr<SparseSelection> UploadSelection(const KeySelection& selection,
                                                   std::int32_t query_heads) override {
    CheckSelection(selection, query_heads);
    return std::make_unique<HostSelection>(selection);
  }
  void IndexRows(SparseSelection& selection, std::int64_t position, std::int64_t rows) override {
    HostSelection& host = HostSelection::Of(selection);
    host.index = BuildIndex(host.keys, position, rows);
  }
  void SparseAttention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                       std::int32_t layer, const SequenceRows& rows, SparseSelection& selection,
                       MatrixView out) override {
    ReferenceSparseAttention(q, shape, geometry, layer, rows, selection, out);
  }

  void SiluMul(ConstMatrixView gate_up, MatrixView out) override {
    for (std::int64_t row = 0; row < out.rows; ++row) {
      for (std::int64_t i = 0; i < out.cols; ++i) {
        const double gate = static_cast<double>(At(gate_up, row, i));
        const double up = static_cast<double>(At(gate_up, row, out.cols + i));
        Put(out, row, i, gate / (1 + std::exp(-gate)) * up);
      }
    }
  }

  void TokenLogprobs(ConstMatrixView logits, std::span<const std::uint32_t> targets,
                     std::span<float> logprobs, std::span<std::uint32_t> ranks) override {
    for (std::int64_t row = 0; row < logits.rows; ++row) {
      const std::int64_t target = targets[static_cast<std::size_t>(row)];
      const float own = At(logits, row, target);
      float largest = own;
      std::uint32_t rank = 1;
      for (std::int64_t i = 0; i < logits.cols; ++i) {
        const float other = At(logits, row, i);
        largest = std::max(largest, other);
        if (other > own || (other == own && i < target)) ++rank;
      }
      double sum = 0;
      for (std::int64_t i = 0; i < logits.cols; ++i) {
        sum += std::exp(static_cast<double>(At(logits, row, i)) - static_cast<double>(largest));
      }
      logprobs[static_cast<std::size_t>(row)] = static_cast<float>(
          static_cast<double>(own) - static_cast<double>(largest) - std::log(sum));
      ranks[static_cast<std::size_t>(row)] = rank;
    }
  }

  void Synchronize() override {}
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace longshadow

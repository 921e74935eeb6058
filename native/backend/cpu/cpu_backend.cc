#include "cpu_backend.h"

#include <cstdlib>
#include <string>

#include "attention.h"
#include "cpu_context.h"
#include "cpu_features.h"
#include "key_selection.h"
#include "line_estimate.h"
#include "longshadow/error.h"
#include "matmul.h"
#include "rope.h"
#include "row_operations.h"
#include "sparse_attention.h"

namespace longshadow {
namespace {

/// Composes the operations; each lives in its own file.
class CpuBackend : public Backend {
 public:
  explicit CpuBackend(std::int32_t threads)
      : context_(cpu::ChooseKernels(), threads),
        matmul_(context_),
        rope_(context_),
        attention_(context_),
        sparse_attention_(context_),
        estimator_(context_),
        selector_(context_, estimator_) {}

  std::string_view Name() const override { return "cpu"; }
  std::string_view InstructionSet() const override { return context_.kernels.name; }

  void* Allocate(std::int64_t bytes) override {
    cpu::Require(bytes >= 0, "Allocate: a negative size");
    void* data = std::aligned_alloc(64, static_cast<std::size_t>((bytes + 64) / 64 * 64));
    if (data == nullptr) {
      throw Error(ErrorCode::kInternal, "out of memory: " + std::to_string(bytes) + " bytes");
    }
    return data;
  }
  void Free(void* data) override { std::free(data); }

  std::unique_ptr<PackedMatrix> Pack(ConstMatrixView weight, DType compute) override {
    return matmul_.Pack(weight, compute);
  }
  void MatMul(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
              bool accumulate) override {
    matmul_.Run(x, weight, y, accumulate);
  }
  void Embed(ConstMatrixView table, std::span<const std::uint32_t> ids, MatrixView x) override {
    cpu::Embed(context_, table, ids, x);
  }
  void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps,
               MatrixView out) override {
    cpu::RmsNorm(context_, x, weight, eps, out);
  }
  void RopeAndStore(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
                    const KvGeometry& geometry, std::int32_t layer,
                    std::span<const SequenceRows> sequences, MatrixView q) override {
    rope_.Run(qkv, shape, rope, geometry, layer, sequences, q);
  }
  void Attention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                 std::int32_t layer, std::span<const SequenceRows> sequences,
                 MatrixView out) override {
    attention_.Run(q, shape, geometry, layer, sequences, out);
  }

  void EstimateLines(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                     std::int32_t layer, const SequenceRows& rows,
                     std::span<const std::int32_t> heads,
                     std::span<const LineScores> scores) override {
    estimator_.Run(q, shape, geometry, layer, rows, heads, scores, nullptr);
  }
  std::unique_ptr<SparseSelection> SelectKeys(ConstMatrixView q, const AttentionShape& shape,
                                              const KvGeometry& geometry, std::int32_t layer,
                                              const SequenceRows& chunk,
                                              std::span<const HeadBudget> budgets,
                                              const FlexOptions& flex,
                                              const CancellationFlag* interrupt) override {
    return selector_.Select(q, shape, geometry, layer, chunk, budgets, flex, interrupt);
  }
  std::unique_ptr<SparseSelection> UploadSelection(const KeySelection& selection,
                                                   std::int32_t query_heads) override {
    return cpu::UploadSelection(selection, query_heads);
  }
  void IndexRows(SparseSelection& selection, std::int64_t position, std::int64_t rows) override {
    cpu::IndexRows(selection, position, rows);
  }
  void SparseAttention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                       std::int32_t layer, const SequenceRows& rows, SparseSelection& selection,
                       MatrixView out) override {
    sparse_attention_.Run(q, shape, geometry, layer, rows, selection, out);
  }
  void SiluMul(ConstMatrixView gate_up, MatrixView out) override {
    cpu::SiluMul(context_, gate_up, out);
  }
  void TokenLogprobs(ConstMatrixView logits, std::span<const std::uint32_t> targets,
                     std::span<float> logprobs, std::span<std::uint32_t> ranks) override {
    cpu::TokenLogprobs(context_, logits, targets, logprobs, ranks);
  }
  /// Nothing is queued: every call returns when its work is done.
  void Synchronize() override {}

 private:
  cpu::CpuContext context_;
  cpu::MatMulRunner matmul_;
  cpu::RopeRunner rope_;
  cpu::AttentionRunner attention_;
  cpu::SparseAttentionRunner sparse_attention_;
  cpu::LineEstimator estimator_;
  cpu::KeySelector selector_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(std::int32_t threads) {
  cpu::Require(threads >= 0, "threads must be 0 (one a core) or more");
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace longshadow

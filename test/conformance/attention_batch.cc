#include "test/conformance/attention_batch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "test/conformance/tolerance.h"

namespace longshadow::conformance {
namespace {

/// Tiles of 128 keys that raise the largest score so far: each rescales the sums.
std::int64_t Rescalings(const std::vector<double>& scores) {
  constexpr std::size_t kTile = 128;
  std::int64_t count = 0;
  double top = -std::numeric_limits<double>::infinity();
  for (std::size_t tile = 0; tile < scores.size(); tile += kTile) {
    const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(tile);
    const double own = *std::max_element(
        begin, begin + static_cast<std::ptrdiff_t>(std::min(kTile, scores.size() - tile)));
    if (own > top) ++count;
    top = std::max(top, own);
  }
  return count;
}

/// Scores of the keys; raises exact.score_magnitude.
std::vector<double> ExactScores(const Batch& b, const RowHead& at,
                                std::span<const std::int64_t> keys, Exact& exact) {
  const std::int64_t dim = b.shape.head_dim;
  const double scale = static_cast<double>(b.shape.scale);
  std::vector<double> query(static_cast<std::size_t>(dim));
  for (std::int64_t d = 0; d < dim; ++d) {
    query[static_cast<std::size_t>(d)] =
        b.q.At(b.sequences[at.sequence].row_begin + at.row, at.head * dim + d);
  }
  std::vector<double> scores;
  for (const std::int64_t key : keys) {
    double dot = 0;
    double size = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      const double product = query[static_cast<std::size_t>(d)] *
                             b.caches[at.sequence].K(1, b.KvHead(at.head), key, d);
      dot += product;
      size += std::abs(product);
    }
    scores.push_back(dot * scale);
    exact.score_magnitude = std::max(exact.score_magnitude, size * scale);
  }
  return scores;
}

/// Softmax of the scores over V, and the chains of its sums.
void AddExactValues(const Batch& b, const RowHead& at, std::span<const std::int64_t> keys,
                    const std::vector<double>& scores, std::int64_t rescalings, Exact& exact) {
  constexpr std::size_t kPieceKeys = 4096;  // the shortest that any kernel merges
  const auto pieces = static_cast<std::int64_t>((keys.size() + kPieceKeys - 1) / kPieceKeys);
  const double top = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights;
  for (const double score : scores) weights.push_back(std::exp(score - top));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> terms(keys.size());
  for (std::int64_t d = 0; d < b.shape.head_dim; ++d) {
    for (std::size_t j = 0; j < keys.size(); ++j) {
      terms[j] = weights[j] / sum * b.caches[at.sequence].V(1, b.KvHead(at.head), keys[j], d);
    }
    double magnitude = 0;
    for (const double term : terms) magnitude += std::abs(term);
    SumChain chain(magnitude);
    for (const double term : terms) chain.AddTerm(std::abs(term));
    exact.output.push_back(std::accumulate(terms.begin(), terms.end(), 0.0));
    exact.magnitude.push_back(magnitude);
    exact.value_chain.push_back(chain.Roundings(rescalings, pieces));
  }
  SumChain chain(1.0);
  for (const double weight : weights) chain.AddTerm(weight / sum);
  exact.weight_chain = chain.Roundings(rescalings, pieces);
}

Exact ExactOver(const Batch& b, const RowHead& at, std::span<const std::int64_t> keys,
                std::optional<std::int64_t> tiles) {
  Exact exact;
  const std::vector<double> scores = ExactScores(b, at, keys, exact);
  AddExactValues(b, at, keys, scores, tiles.value_or(Rescalings(scores)), exact);
  return exact;
}

}  // namespace

Batch::Batch(std::mt19937_64& generator, const Heads& heads, DType dtype,
             std::span<const Sequence> wanted, std::int64_t distinct_pages)
    : shape{heads.kv * heads.group, heads.kv, heads.dim,
            1.0F / std::sqrt(static_cast<float>(heads.dim))},
      geometry{2, heads.kv, heads.dim, dtype},
      q(dtype, 0, 1) {
  std::int64_t rows = 0;
  for (const Sequence& s : wanted) {
    const std::int64_t tokens = s.position + s.rows;
    caches.emplace_back(geometry, tokens, distinct_pages);
    caches.back().FillRandom(generator, tokens);
    sequences.push_back({rows, s.rows, s.position, caches.back().pages()});
    rows += s.rows;
  }
  q = Matrix::Random(generator, dtype, rows, shape.query_heads * heads.dim);
}

Matrix Batch::Run(Backend& backend) const {
  Matrix out(q.dtype(), q.rows(), q.cols());
  backend.Attention(q.View(), shape, geometry, 1, sequences, out.View());
  backend.Synchronize();
  return out;
}

Exact ExactAttention(const Batch& b, const RowHead& at) {
  std::vector<std::int64_t> keys(
      static_cast<std::size_t>(b.sequences[at.sequence].position + at.row + 1));
  std::iota(keys.begin(), keys.end(), 0);
  return ExactOver(b, at, keys, std::nullopt);
}

Exact ExactAttention(const Batch& b, const RowHead& at, std::span<const std::int64_t> keys,
                     std::int64_t tiles) {
  return ExactOver(b, at, keys, tiles);
}

std::int64_t CountWrong(const Batch& b, const RowHead& at, const Exact& exact, const Matrix& out,
                        std::int64_t out_row) {
  const std::int64_t dim = b.shape.head_dim;
  std::int64_t wrong = 0;
  for (std::int64_t d = 0; d < dim; ++d) {
    const auto i = static_cast<std::size_t>(d);
    const double tolerance =
        AttentionTolerance({dim, exact.score_magnitude, exact.magnitude[i],
                            std::abs(exact.output[i]), exact.value_chain[i], exact.weight_chain},
                           b.q.dtype());
    const double got = out.At(out_row, at.head * dim + d);
    if (!(std::abs(got - exact.output[i]) <= tolerance)) ++wrong;
  }
  return wrong;
}

}  // namespace longshadow::conformance

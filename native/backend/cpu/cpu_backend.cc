#include "cpu_backend.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "longshadow/error.h"

namespace longshadow {
namespace {

float Get(const void* data, DType dtype, std::int64_t i) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[i]
                              : static_cast<const BFloat16*>(data)[i].ToFloat();
}
void Put(void* data, DType dtype, std::int64_t i, float value) {
  if (dtype == DType::kF32) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<BFloat16*>(data)[i] = BFloat16::FromFloat(value);
  }
}

class PlainPack : public PackedMatrix {
 public:
  explicit PlainPack(ConstMatrixView w) : out_(w.rows), in_(w.cols), dtype_(w.dtype) {
    bytes_.resize(static_cast<std::size_t>(out_ * in_) * DTypeBytes(dtype_));
    for (std::int64_t r = 0; r < out_; ++r) {
      for (std::int64_t c = 0; c < in_; ++c) {
        Put(bytes_.data(), dtype_, r * in_ + c, Get(w.data, w.dtype, r * w.stride + c));
      }
    }
  }
  std::int64_t out_features() const override { return out_; }
  std::int64_t in_features() const override { return in_; }
  std::int64_t bytes() const override { return static_cast<std::int64_t>(bytes_.size()); }
  float At(std::int64_t i) const { return Get(bytes_.data(), dtype_, i); }

 private:
  std::int64_t out_, in_;
  DType dtype_;
  std::vector<std::byte> bytes_;
};

class CpuBackend : public Backend {
 public:
  std::string_view Name() const override { return "cpu"; }
  std::string_view InstructionSet() const override { return "generic"; }

  void* Allocate(std::int64_t bytes) override {
    void* data = std::aligned_alloc(64, static_cast<std::size_t>((bytes + 63) / 64 * 64));
    if (data == nullptr) throw Error(ErrorCode::kInternal, "out of memory");
    return data;
  }
  void Free(void* data) override { std::free(data); }

  std::unique_ptr<PackedMatrix> Pack(ConstMatrixView weight, DType /*compute*/) override {
    return std::make_unique<PlainPack>(weight);
  }

  void MatMul(ConstMatrixView x, const PackedMatrix& weight, MatrixView y,
              bool accumulate) override {
    const auto& w = static_cast<const PlainPack&>(weight);
    auto* out = static_cast<float*>(y.data);
    for (std::int64_t r = 0; r < x.rows; ++r) {
      for (std::int64_t o = 0; o < w.out_features(); ++o) {
        float sum = 0;
        for (std::int64_t i = 0; i < x.cols; ++i) {
          sum += Get(x.data, x.dtype, r * x.stride + i) * w.At(o * x.cols + i);
        }
        float& target = out[r * y.stride + o];
        target = accumulate ? target + sum : sum;
      }
    }
  }

  void Embed(ConstMatrixView table, std::span<const std::uint32_t> ids, MatrixView x) override {
    for (std::size_t r = 0; r < ids.size(); ++r) {
      for (std::int64_t c = 0; c < x.cols; ++c) {
        Put(x.data, x.dtype, static_cast<std::int64_t>(r) * x.stride + c,
            Get(table.data, table.dtype, static_cast<std::int64_t>(ids[r]) * table.stride + c));
      }
    }
  }

  void RmsNorm(ConstMatrixView x, std::span<const float> weight, float eps,
               MatrixView out) override {
    for (std::int64_t r = 0; r < x.rows; ++r) {
      const float* row = static_cast<const float*>(x.data) + r * x.stride;
      float sum = 0;
      for (std::int64_t c = 0; c < x.cols; ++c) sum += row[c] * row[c];
      const float scale = 1.0F / std::sqrt(sum / static_cast<float>(x.cols) + eps);
      for (std::int64_t c = 0; c < x.cols; ++c) {
        Put(out.data, out.dtype, r * out.stride + c,
            row[c] * scale * weight[static_cast<std::size_t>(c)]);
      }
    }
  }

  void RopeAndStore(ConstMatrixView qkv, const AttentionShape& shape, const RopeTable& rope,
                    const KvGeometry& geometry, std::int32_t layer,
                    std::span<const SequenceRows> sequences, MatrixView q) override {
    const std::int64_t d = shape.head_dim;
    const auto half = static_cast<std::int64_t>(rope.inv_freq.size());
    for (const SequenceRows& s : sequences) {
      for (std::int64_t i = 0; i < s.rows; ++i) {
        const std::int64_t row = s.row_begin + i;
        const std::int64_t position = s.position + i;
        const float* in = static_cast<const float*>(qkv.data) + row * qkv.stride;
        const std::int64_t page = position / kPageTokens;
        const std::int64_t slot = position % kPageTokens;
        const auto rotated = [&](const float* head, std::int64_t c) {
          if (c >= 2 * half) return head[c];
          const std::int64_t p = c < half ? c : c - half;
          const float angle =
              static_cast<float>(position) * rope.inv_freq[static_cast<std::size_t>(p)];
          const float cosine = std::cos(angle) * rope.attention_factor;
          const float sine = std::sin(angle) * rope.attention_factor;
          return c < half ? head[p] * cosine - head[p + half] * sine
                          : head[p + half] * cosine + head[p] * sine;
        };
        for (std::int64_t h = 0; h < shape.query_heads; ++h) {
          for (std::int64_t c = 0; c < d; ++c) {
            Put(q.data, q.dtype, row * q.stride + h * d + c, rotated(in + h * d, c));
          }
        }
        for (std::int32_t h = 0; h < shape.kv_heads; ++h) {
          const float* k = in + (shape.query_heads + h) * d;
          const float* v = k + shape.kv_heads * d;
          const std::int64_t offset = geometry.PlaneOffset(layer, h);
          for (std::int64_t c = 0; c < d; ++c) {
            const auto p = static_cast<std::size_t>(page);
            Put(s.pages.k[p] + offset, geometry.dtype, slot * d + c, rotated(k, c));
            Put(s.pages.v[p] + offset, geometry.dtype, slot * d + c, v[c]);
          }
        }
      }
    }
  }

  void Attention(ConstMatrixView q, const AttentionShape& shape, const KvGeometry& geometry,
                 std::int32_t layer, std::span<const SequenceRows> sequences,
                 MatrixView out) override {
    const std::int64_t d = shape.head_dim;
    const std::int32_t group = shape.query_heads / shape.kv_heads;
    std::vector<float> scores;
    for (const SequenceRows& s : sequences) {
      for (std::int64_t i = 0; i < s.rows; ++i) {
        for (std::int32_t h = 0; h < shape.query_heads; ++h) {
          const std::int64_t offset = geometry.PlaneOffset(layer, h / group);
          const std::int64_t keys = s.position + i + 1;
          const std::int64_t at = (s.row_begin + i) * q.stride + h * d;
          scores.assign(static_cast<std::size_t>(keys), 0);
          float top = -INFINITY;
          for (std::int64_t j = 0; j < keys; ++j) {
            const std::byte* plane =
                s.pages.k[static_cast<std::size_t>(j / kPageTokens)] + offset;
            float dot = 0;
            for (std::int64_t c = 0; c < d; ++c) {
              dot += Get(q.data, q.dtype, at + c) *
                     Get(plane, geometry.dtype, j % kPageTokens * d + c);
            }
            scores[static_cast<std::size_t>(j)] = dot * shape.scale;
            top = std::fmax(top, dot * shape.scale);
          }
          std::vector<float> o(static_cast<std::size_t>(d), 0);
          float sum = 0;
          for (std::int64_t j = 0; j < keys; ++j) {
            const std::byte* plane =
                s.pages.v[static_cast<std::size_t>(j / kPageTokens)] + offset;
            const float p = std::exp(scores[static_cast<std::size_t>(j)] - top);
            sum += p;
            for (std::int64_t c = 0; c < d; ++c) {
              o[static_cast<std::size_t>(c)] +=
                  p * Get(plane, geometry.dtype, j % kPageTokens * d + c);
            }
          }
          for (std::int64_t c = 0; c < d; ++c) {
            Put(out.data, out.dtype, (s.row_begin + i) * out.stride + h * d + c,
                o[static_cast<std::size_t>(c)] / sum);
          }
        }
      }
    }
  }

  void SiluMul(ConstMatrixView gate_up, MatrixView out) override {
    const std::int64_t ffn = gate_up.cols / 2;
    for (std::int64_t r = 0; r < gate_up.rows; ++r) {
      const float* row = static_cast<const float*>(gate_up.data) + r * gate_up.stride;
      for (std::int64_t c = 0; c < ffn; ++c) {
        Put(out.data, out.dtype, r * out.stride + c,
            row[c] / (1 + std::exp(-row[c])) * row[ffn + c]);
      }
    }
  }

  void TokenLogprobs(ConstMatrixView logits, std::span<const std::uint32_t> targets,
                     std::span<float> logprobs, std::span<std::uint32_t> ranks) override {
    for (std::int64_t r = 0; r < logits.rows; ++r) {
      const float* row = static_cast<const float*>(logits.data) + r * logits.stride;
      const auto i = static_cast<std::size_t>(r);
      const auto target = static_cast<std::int64_t>(targets[i]);
      float top = row[0];
      for (std::int64_t c = 1; c < logits.cols; ++c) top = std::fmax(top, row[c]);
      double sum = 0;
      std::uint32_t rank = 1;
      for (std::int64_t c = 0; c < logits.cols; ++c) {
        sum += std::exp(static_cast<double>(row[c]) - top);
        rank += row[c] > row[target] || (row[c] == row[target] && c < target) ? 1U : 0U;
      }
      logprobs[i] = static_cast<float>(static_cast<double>(row[target]) - top - std::log(sum));
      ranks[i] = rank;
    }
  }

  void Synchronize() override {}
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(std::int32_t /*threads*/) {
  return std::make_unique<CpuBackend>();
}

}  // namespace longshadow

#include "onednn_products.h"

#include <algorithm>
#include <compare>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

namespace longshadow::cpu {
namespace {

constexpr std::int64_t kRowBlock = 256;

/// One call of oneDNN.
struct Shape {
  std::int64_t rows = 0;
  std::int64_t features = 0;
  std::int64_t columns = 0;
  bool accumulate = false;

  auto operator<=>(const Shape&) const = default;
};

struct Product {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

Product MakeProduct(const dnnl::engine& engine, const Shape& shape) {
  using dnnl::memory;
  const memory::desc x({shape.rows, shape.features}, memory::data_type::bf16,
                       memory::format_tag::ab);
  const dnnl::memory::desc w({shape.features, shape.columns}, dnnl::memory::data_type::bf16,
                             dnnl::memory::format_tag::BA16a64b2a);
  const memory::desc y({shape.rows, shape.columns}, memory::data_type::f32, memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (shape.accumulate) {
    dnnl::post_ops operations;
    operations.append_sum(1.0F);
    attributes.set_post_ops(operations);
  }
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, x, w, y, attributes);
#else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, w, y), attributes, engine);
#endif
  return {description, dnnl::matmul(description)};
}

}  // namespace

struct OneDnnProducts::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::vector<dnnl::stream> streams;  // one a thread
  std::mutex mutex;
  std::map<Shape, Product> products;  // guarded by mutex; elements stay where they are

  const Product& Find(const Shape& shape) {
    const std::lock_guard lock(mutex);
    const auto found = products.find(shape);
    if (found != products.end()) return found->second;
    return products.emplace(shape, MakeProduct(engine, shape)).first->second;
  }

  void Execute(const Product& product, const void* x, const void* weights, float* y,
               CpuContext& context, std::int32_t thread) {
    const dnnl::memory::desc scratch = product.description.scratchpad_desc();
    const auto bytes = static_cast<std::int64_t>(scratch.get_size());
    const auto view = [&](const dnnl::memory::desc& desc, const void* data) {
      return dnnl::memory(desc, engine, const_cast<void*>(data));
    };
    product.primitive.execute(
        streams[static_cast<std::size_t>(thread)],
        {{DNNL_ARG_SRC, view(product.description.src_desc(), x)},
         {DNNL_ARG_WEIGHTS, view(product.description.weights_desc(), weights)},
         {DNNL_ARG_DST, view(product.description.dst_desc(), y)},
         {DNNL_ARG_SCRATCHPAD, view(scratch, context.Scratch(thread, bytes + 64))}});
  }
};

OneDnnProducts::OneDnnProducts(CpuContext& context) : context_(context) {
  // Keeps oneDNN on the dot products that our own kernels use: AMX would sum in another order.
  // Refused once any primitive exists in the process: then this was set before.
  dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
  state_ = std::make_unique<State>();
  for (std::int32_t t = 0; t < context.pool.threads(); ++t) {
    state_->streams.emplace_back(state_->engine);
  }
}

OneDnnProducts::~OneDnnProducts() = default;

const std::uint16_t* OneDnnProducts::FeatureBlocks(ConstMatrixView x) {
  const auto* rows = static_cast<const std::uint16_t*>(x.data);
  if (x.stride == x.cols && x.cols <= kFeatureBlock) return rows;
  auto* blocks = reinterpret_cast<std::uint16_t*>(blocks_.Reserve(x.rows * x.cols * 2));
  constexpr std::int64_t kRows = 32;
  context_.pool.Run((x.rows + kRows - 1) / kRows, [&](std::int64_t task, std::int32_t) {
    const std::int64_t end = std::min(x.rows, (task + 1) * kRows);
    for (std::int64_t row = task * kRows; row < end; ++row) {
      for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
        const std::int64_t features = std::min(kFeatureBlock, x.cols - begin);
        std::copy_n(rows + row * x.stride + begin, features,
                    blocks + begin * x.rows + row * features);
      }
    }
  });
  return blocks;
}

void OneDnnProducts::Run(ConstMatrixView x, const PackedWeight& weight, MatrixView y,
                         bool accumulate) {
  Require(y.stride == y.cols, "oneDNN products write whole rows");
  const std::uint16_t* blocks = FeatureBlocks(x);
  const std::int64_t share = (x.rows + context_.pool.threads() - 1) / context_.pool.threads();
  const std::int64_t row_block = std::min(kRowBlock, (share + 15) / 16 * 16);
  const std::int64_t tasks = (x.rows + row_block - 1) / row_block;
  context_.pool.Run(tasks, [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t row = task * row_block;
    Shape shape{.rows = std::min(row_block, x.rows - row), .columns = y.cols};
    for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
      shape.features = std::min(kFeatureBlock, x.cols - begin);
      shape.accumulate = accumulate || begin > 0;
      state_->Execute(state_->Find(shape), blocks + begin * x.rows + row * shape.features,
                      weight.panel(begin, 0), static_cast<float*>(y.data) + row * y.stride,
                      context_, thread);
    }
  });
}

}  // namespace longshadow::cpu

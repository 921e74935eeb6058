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
constexpr std::int64_t kColumnBlock = 512;  // with kRowBlock: 512 KiB of y, which stay in L2

/// One call of oneDNN.
struct Shape {
  std::int64_t rows = 0;
  std::int64_t features = 0;
  std::int64_t columns = 0;
  std::int64_t x_stride = 0;
  std::int64_t y_stride = 0;
  bool accumulate = false;

  auto operator<=>(const Shape&) const = default;
};

struct Product {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

dnnl::memory::desc Strided(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                           dnnl::memory::data_type type) {
  return {dnnl::memory::dims{rows, columns}, type, dnnl::memory::dims{stride, 1}};
}

Product MakeProduct(const dnnl::engine& engine, const Shape& shape) {
  const auto x = Strided(shape.rows, shape.features, shape.x_stride, dnnl::memory::data_type::bf16);
  const dnnl::memory::desc w({shape.features, shape.columns}, dnnl::memory::data_type::bf16,
                             dnnl::memory::format_tag::BA16a64b2a);
  const auto y = Strided(shape.rows, shape.columns, shape.y_stride, dnnl::memory::data_type::f32);
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

void OneDnnProducts::Run(ConstMatrixView x, const PackedWeight& weight, MatrixView y,
                         bool accumulate) {
  const std::int64_t share = (x.rows + context_.pool.threads() - 1) / context_.pool.threads();
  const std::int64_t row_block = std::min(kRowBlock, (share + 15) / 16 * 16);
  const std::int64_t row_blocks = (x.rows + row_block - 1) / row_block;
  const std::int64_t column_blocks = (y.cols + kColumnBlock - 1) / kColumnBlock;
  context_.pool.Run(row_blocks * column_blocks, [&](std::int64_t task, std::int32_t thread) {
    const std::int64_t row = task / column_blocks * row_block;
    const std::int64_t column = task % column_blocks * kColumnBlock;
    Shape shape{.rows = std::min(row_block, x.rows - row),
                .columns = std::min(kColumnBlock, y.cols - column),
                .x_stride = x.stride,
                .y_stride = y.stride};
    for (std::int64_t begin = 0; begin < x.cols; begin += kFeatureBlock) {
      shape.features = std::min(kFeatureBlock, x.cols - begin);
      shape.accumulate = accumulate || begin > 0;
      state_->Execute(state_->Find(shape),
                      static_cast<const std::uint16_t*>(x.data) + row * x.stride + begin,
                      weight.panel(begin, column / kPanel),
                      static_cast<float*>(y.data) + row * y.stride + column, context_, thread);
    }
  });
}

}  // namespace longshadow::cpu

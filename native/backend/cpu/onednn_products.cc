#include "onednn_products.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

namespace longshadow::cpu {
namespace {

// rows, in, out, x stride, y stride, accumulate
using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool>;

struct Product {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

dnnl::memory::desc Strided(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                           dnnl::memory::data_type type) {
  return {dnnl::memory::dims{rows, columns}, type, dnnl::memory::dims{stride, 1}};
}

Product MakeProduct(const dnnl::engine& engine, const Key& key) {
  const auto [rows, in, out, x_stride, y_stride, accumulate] = key;
  const auto x = Strided(rows, in, x_stride, dnnl::memory::data_type::bf16);
  const dnnl::memory::desc w({in, out}, dnnl::memory::data_type::bf16,
                             dnnl::memory::format_tag::BA16a64b2a);
  const auto y = Strided(rows, out, y_stride, dnnl::memory::data_type::f32);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
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
  std::map<Key, Product> products;

  const Product& Find(const Key& key) {
    const auto found = products.find(key);
    if (found != products.end()) return found->second;
    return products.emplace(key, MakeProduct(engine, key)).first->second;
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
  // Equal shares of at most 256 rows, in whole register tiles.
  const std::int64_t threads = context_.pool.threads();
  const std::int64_t share = (x.rows + threads - 1) / threads;
  const std::int64_t block = std::min<std::int64_t>(256, (share + 15) / 16 * 16);
  const std::int64_t tasks = (x.rows + block - 1) / block;
  const auto key = [&](std::int64_t rows) {
    return Key{rows, weight.in_features(), weight.out_features(), x.stride, y.stride, accumulate};
  };
  const Product& whole = state_->Find(key(std::min(block, x.rows)));
  const Product& last = state_->Find(key(x.rows - (tasks - 1) * block));
  context_.pool.Run(tasks, [&](std::int64_t task, std::int32_t thread) {
    const Product& product = task == tasks - 1 ? last : whole;
    const dnnl::engine& engine = state_->engine;
    auto* x_rows = static_cast<std::uint16_t*>(const_cast<void*>(x.data)) + task * block * x.stride;
    auto* y_rows = static_cast<float*>(y.data) + task * block * y.stride;
    const auto scratch = product.description.scratchpad_desc();
    const dnnl::memory source(product.description.src_desc(), engine, x_rows);
    const dnnl::memory weights(product.description.weights_desc(), engine,
                               const_cast<std::byte*>(weight.panel(0)));
    const dnnl::memory target(product.description.dst_desc(), engine, y_rows);
    const dnnl::memory pad(
        scratch, engine,
        context_.Scratch(thread, static_cast<std::int64_t>(scratch.get_size()) + 64));
    const dnnl::stream& stream = state_->streams[static_cast<std::size_t>(thread)];
    product.primitive.execute(stream, {{DNNL_ARG_SRC, source},
                                       {DNNL_ARG_WEIGHTS, weights},
                                       {DNNL_ARG_DST, target},
                                       {DNNL_ARG_SCRATCHPAD, pad}});
  });
}

}  // namespace longshadow::cpu

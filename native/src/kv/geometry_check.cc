#include "kv/geometry_check.h"

#include <string>

#include "longshadow/error.h"

namespace longshadow {
namespace {

void CheckRange(const char* name, std::int32_t value, std::int32_t most) {
  if (value >= 1 && value <= most) return;
  throw Error(ErrorCode::kInvalidArgument, std::string("KV geometry: ") + name +
                                               " must be in [1, " + std::to_string(most) +
                                               "], got " + std::to_string(value));
}

}  // namespace

void CheckGeometry(const KvGeometry& geometry) {
  CheckRange("layers", geometry.layers, kMaxLayers);
  CheckRange("kv_heads", geometry.kv_heads, kMaxKvHeads);
  CheckRange("head_dim", geometry.head_dim, kMaxHeadDim);
  if (geometry.head_dim % 8 != 0) {
    throw Error(ErrorCode::kInvalidArgument, "KV geometry: head_dim must be a multiple of 8");
  }
  if (geometry.dtype != DType::kF32 && geometry.dtype != DType::kBF16) {
    throw Error(ErrorCode::kInvalidArgument, "KV geometry: dtype must be fp32 or bf16");
  }
}

}  // namespace longshadow

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace longshadow {

/// One tensor of a safetensors file. `data` points into the file's bytes and is aligned to the
/// element size.
struct Tensor {
  std::string dtype;  // as in the file: "BF16", "F32", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;

  std::int64_t elements() const;
};

/// Reads the header of a safetensors file that lies in memory as a whole: 8 bytes of header
/// length (little endian), a JSON object {name: {dtype, shape, data_offsets}}, then the data.
/// The bytes are untrusted: header length, types, the product of the shape, and offsets are
/// checked; the tensors must cover the data section without a hole or an overlap, as the format
/// demands. `what` names the file in errors. Throws kModelInvalid.
std::map<std::string, Tensor> ParseSafetensors(std::span<const std::byte> file,
                                               const std::string& what);

}  // namespace longshadow

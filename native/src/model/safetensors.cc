#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "longshadow/error.h"
#include "model/json_document.h"

namespace longshadow {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::uint64_t kLengthBytes = 8;
// {tensors: {fields: [numbers]}}
constexpr int kHeaderDepth = 3;
constexpr std::size_t kMaxRank = 8;

[[noreturn]] void Refuse(const std::string& what, const std::string& problem) {
  throw Error(ErrorCode::kModelInvalid, what + ": " + problem + "; download the file again");
}

std::optional<std::uint64_t> ElementBytes(const std::string& dtype) {
  static constexpr std::array<std::pair<const char*, std::uint64_t>, 15> kSizes = {{{"BOOL", 1},
                                                                                    {"U8", 1},
                                                                                    {"I8", 1},
                                                                                    {"F8_E5M2", 1},
                                                                                    {"F8_E4M3", 1},
                                                                                    {"I16", 2},
                                                                                    {"U16", 2},
                                                                                    {"F16", 2},
                                                                                    {"BF16", 2},
                                                                                    {"I32", 4},
                                                                                    {"U32", 4},
                                                                                    {"F32", 4},
                                                                                    {"F64", 8},
                                                                                    {"I64", 8},
                                                                                    {"U64", 8}}};
  for (const auto& [name, bytes] : kSizes) {
    if (dtype == name) return bytes;
  }
  return std::nullopt;
}

/// Where the JSON header lies; the rest of the file is data.
struct Sections {
  std::span<const std::byte> header;
  std::span<const std::byte> data;
};

Sections SplitFile(std::span<const std::byte> file, const std::string& what) {
  if (file.size() < kLengthBytes) Refuse(what, "is shorter than the 8 bytes of its header length");
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= static_cast<std::uint64_t>(file[i]) << (8 * i);
  }
  if (header_bytes > kMaxHeaderBytes) Refuse(what, "has a header length over 100 MB");
  if (header_bytes > file.size() - kLengthBytes) {
    Refuse(what, "ends inside its header (" + std::to_string(header_bytes) + " bytes)");
  }
  return {file.subspan(kLengthBytes, header_bytes), file.subspan(kLengthBytes + header_bytes)};
}

/// A JSON array of non-negative integers, or nothing.
std::optional<std::vector<std::uint64_t>> Numbers(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return std::nullopt;
  std::vector<std::uint64_t> numbers;
  for (const auto& element : *found) {
    if (!element.is_number_unsigned()) return std::nullopt;
    numbers.push_back(element.get<std::uint64_t>());
  }
  return numbers;
}

/// Bytes of a tensor, or nothing when the product does not fit 63 bits.
std::optional<std::uint64_t> TensorBytes(const std::vector<std::uint64_t>& shape,
                                         std::uint64_t element_bytes) {
  std::uint64_t bytes = element_bytes;
  for (const std::uint64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
    // Also each partial product and each extent: a later extent may be zero.
    if (bytes > INT64_MAX || extent > INT64_MAX) return std::nullopt;
  }
  return bytes;
}

Tensor ReadTensor(const nlohmann::json& entry, std::span<const std::byte> data,
                  const std::string& what) {
  if (!entry.is_object()) Refuse(what, "is not an object");
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) Refuse(what, "has no dtype");
  Tensor tensor;
  tensor.dtype = dtype->get<std::string>();
  const auto element_bytes = ElementBytes(tensor.dtype);
  if (!element_bytes) Refuse(what, "has an unknown dtype");
  const auto shape = Numbers(entry, "shape");
  if (!shape || shape->size() > kMaxRank) Refuse(what, "has no shape of at most 8 sizes");
  const auto bytes = TensorBytes(*shape, *element_bytes);
  if (!bytes) Refuse(what, "has a shape whose size does not fit 63 bits");
  const auto offsets = Numbers(entry, "data_offsets");
  if (!offsets || offsets->size() != 2) Refuse(what, "has no pair of data_offsets");
  const std::uint64_t begin = (*offsets)[0];
  const std::uint64_t end = (*offsets)[1];
  if (begin > end || end > data.size()) Refuse(what, "has data_offsets outside of the file");
  if (end - begin != *bytes) Refuse(what, "has data_offsets that do not match dtype and shape");
  tensor.shape.assign(shape->begin(), shape->end());
  tensor.data = data.subspan(begin, *bytes);
  if (reinterpret_cast<std::uintptr_t>(tensor.data.data()) % *element_bytes != 0) {
    throw Error(ErrorCode::kModelInvalid,
                what +
                    ": is not aligned to its element size; save it again with a current "
                    "safetensors library");
  }
  return tensor;
}

/// The format allows neither holes nor overlaps; both hide data or alias two tensors.
void CheckCoverage(const std::map<std::string, Tensor>& tensors, std::span<const std::byte> data,
                   const std::string& what) {
  std::vector<std::span<const std::byte>> spans;
  for (const auto& [name, tensor] : tensors) spans.push_back(tensor.data);
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
    return a.data() != b.data() ? a.data() < b.data() : a.size() < b.size();
  });
  const std::byte* expected = data.data();
  for (const auto& span : spans) {
    if (span.data() != expected) Refuse(what, "has tensors that overlap or leave a hole");
    expected += span.size();
  }
  if (expected != data.data() + data.size()) {
    Refuse(what, "has bytes after its last tensor");
  }
}

}  // namespace

std::int64_t Tensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::map<std::string, Tensor> ParseSafetensors(std::span<const std::byte> file,
                                               const std::string& what) {
  const Sections sections = SplitFile(file, what);
  const nlohmann::json header = ParseJsonObject(sections.header, what + " header", kHeaderDepth);
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    tensors.emplace(name, ReadTensor(entry, sections.data, what + ": tensor '" + name + "'"));
  }
  CheckCoverage(tensors, sections.data, what);
  return tensors;
}

}  // namespace longshadow

#include "model/model_fingerprint.h"

#include <cstdint>
#include <cstdio>

#include "kv/crc32c.h"

namespace longshadow {
namespace {

constexpr std::uint64_t kFnvPrime = 0x100000001b3ULL;
constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325ULL;
// Any other odd start gives the second, differently seeded hash; these are the digits of pi.
constexpr std::uint64_t kSecondBasis = 0x243f6a8885a308d3ULL;

/// Finaliser of SplitMix64: a bijection that lets every input bit reach every output bit.
std::uint64_t Mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

class Hash128 {
 public:
  void Add(std::span<const std::byte> bytes) {
    Number(bytes.size());
    for (const std::byte byte : bytes) AddByte(static_cast<std::uint8_t>(byte));
  }
  void Add(const std::string& text) { Add(std::as_bytes(std::span(text))); }
  void Number(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) AddByte(static_cast<std::uint8_t>(value >> shift));
  }
  std::string Hex() const {
    char text[33];
    std::snprintf(text, sizeof(text), "%016llx%016llx",
                  static_cast<unsigned long long>(Mix(first_)),
                  static_cast<unsigned long long>(Mix(second_ + Mix(first_))));
    return text;
  }

 private:
  void AddByte(std::uint8_t byte) {
    first_ = (first_ ^ byte) * kFnvPrime;
    // The second hash rotates, so that the two do not collide on the same pairs of inputs.
    second_ = ((second_ << 5 | second_ >> 59) ^ byte) * kFnvPrime;
  }

  std::uint64_t first_ = kFnvBasis;
  std::uint64_t second_ = kSecondBasis;
};

}  // namespace

std::string ModelFingerprint(std::span<const std::byte> config_json, const WeightFiles& files,
                             const CancellationFlag& interrupt) {
  Hash128 hash;
  hash.Add(config_json);
  for (const auto& [name, tensor] : files.tensors()) {
    interrupt.ThrowIfCancelled("opening the model was interrupted");
    hash.Add(name);
    hash.Add(tensor.dtype);
    hash.Number(tensor.shape.size());
    for (const std::int64_t extent : tensor.shape) hash.Number(static_cast<std::uint64_t>(extent));
    hash.Number(Crc32c(tensor.data));
  }
  return hash.Hex();
}

}  // namespace longshadow

#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "longshadow/cancellation.h"
#include "model/weight_files.h"

namespace longshadow {

/// Names a model: 32 hex digits over config.json's bytes and every tensor's name, dtype, shape and
/// CRC32C, in order of names. It guards against mixing models up, not against an attacker: two
/// 64-bit FNV-1a hashes of different offset basis, each finished by a bijective mix.
/// interrupt: polled for every tensor (kCancelled).
std::string ModelFingerprint(std::span<const std::byte> config_json, const WeightFiles& files,
                             const CancellationFlag& interrupt);

}  // namespace longshadow

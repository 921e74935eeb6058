#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace longshadow {

/// Parses untrusted bytes as one JSON object with unique keys at its top level.
/// `what` names the document in errors; `max_depth` bounds nesting before anything is built.
/// Throws kModelInvalid and nothing else.
nlohmann::json ParseJsonObject(std::span<const std::byte> bytes, const std::string& what,
                               int max_depth);

/// Reads a whole JSON file (at most 100 MB) as ParseJsonObject does.
nlohmann::json ReadJsonObject(const std::string& path, int max_depth);

}  // namespace longshadow

#include "model/json_document.h"

#include "longshadow/error.h"
#include "model/mapped_file.h"

namespace longshadow {
namespace {

constexpr std::size_t kMaxJsonBytes = 100'000'000;

/// Deepest nesting of arrays and objects, found without building anything. Text inside strings
/// does not count.
int NestingDepth(std::span<const std::byte> bytes) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char c = static_cast<char>(bytes[i]);
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

nlohmann::json ParseJsonObject(std::span<const std::byte> bytes, const std::string& what,
                               int max_depth) {
  if (NestingDepth(bytes) > max_depth) {
    throw Error(ErrorCode::kModelInvalid,
                what + ": nests deeper than " + std::to_string(max_depth) + " levels");
  }
  std::size_t top_level_keys = 0;
  const auto count_keys = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json&) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1) ++top_level_keys;
    return true;
  };
  const char* text = reinterpret_cast<const char*>(bytes.data());
  nlohmann::json parsed =
      nlohmann::json::parse(text, text + bytes.size(), count_keys, /*allow_exceptions=*/false);
  if (parsed.is_discarded() || !parsed.is_object()) {
    throw Error(ErrorCode::kModelInvalid, what + ": is not a JSON object; download it again");
  }
  if (parsed.size() != top_level_keys) {
    throw Error(ErrorCode::kModelInvalid, what + ": names a key twice");
  }
  return parsed;
}

nlohmann::json ReadJsonObject(const std::string& path, int max_depth) {
  const MappedFile file(path);
  if (file.bytes().size() > kMaxJsonBytes) {
    throw Error(ErrorCode::kModelInvalid, path + ": is larger than 100 MB");
  }
  return ParseJsonObject(file.bytes(), path, max_depth);
}

}  // namespace longshadow

#include "model/weight_files.h"

#include <utility>

#include "longshadow/error.h"
#include "model/json_document.h"

namespace longshadow {
namespace {

// {weight_map: {tensor: file}}, and metadata that may nest a little.
constexpr int kIndexDepth = 8;

/// A shard is a plain file name inside the folder. (It may be a link: download caches use them.)
void CheckShardName(const std::string& name, const std::string& index_path) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  if (!plain) {
    throw Error(ErrorCode::kModelInvalid,
                index_path + ": weight_map must name files of its own folder");
  }
}

/// Tensor names by shard, from the index.
std::map<std::string, std::vector<std::string>> ReadIndex(const std::string& index_path) {
  const nlohmann::json index = ReadJsonObject(index_path, kIndexDepth);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    throw Error(ErrorCode::kModelInvalid, index_path + ": has no weight_map");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string()) {
      throw Error(ErrorCode::kModelInvalid,
                  index_path + ": weight_map must map tensor names to file names");
    }
    const auto name = file.get<std::string>();
    CheckShardName(name, index_path);
    shards[name].push_back(tensor);
  }
  return shards;
}

}  // namespace

WeightFiles::WeightFiles(const std::string& directory) {
  const std::string single = directory + "/model.safetensors";
  const std::string index = directory + "/model.safetensors.index.json";
  if (FileExists(single)) {
    tensors_ = OpenShard(single);
  } else if (FileExists(index)) {
    OpenSharded(directory, index);
  } else {
    throw Error(ErrorCode::kModelInvalid,
                directory + ": has neither model.safetensors nor model.safetensors.index.json");
  }
}

std::map<std::string, Tensor> WeightFiles::OpenShard(const std::string& path) {
  const MappedFile& file = files_.emplace_back(path);
  file_bytes_ += static_cast<std::int64_t>(file.bytes().size());
  return ParseSafetensors(file.bytes(), path);
}

void WeightFiles::OpenSharded(const std::string& directory, const std::string& index_path) {
  for (const auto& [file, names] : ReadIndex(index_path)) {
    const std::string path = directory + "/" + file;
    std::map<std::string, Tensor> shard = OpenShard(path);
    for (const std::string& name : names) {
      auto node = shard.extract(name);
      if (node.empty()) {
        throw Error(ErrorCode::kModelInvalid,
                    path + ": lacks tensor '" + name + "' that the index puts there");
      }
      tensors_.insert(std::move(node));
    }
  }
}

}  // namespace longshadow

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/mapped_file.h"
#include "model/safetensors.h"

namespace longshadow {

/// The tensors of a model folder, memory-mapped: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names. Nothing is copied.
class WeightFiles {
 public:
  /// Throws kModelInvalid when there are no weights, a file is corrupt, the index names a file
  /// outside of the folder, or a shard lacks a tensor that the index puts there.
  explicit WeightFiles(const std::string& directory);

  /// Sorted by name.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// Bytes of all weight files.
  std::int64_t file_bytes() const { return file_bytes_; }

 private:
  std::map<std::string, Tensor> OpenShard(const std::string& path);
  void OpenSharded(const std::string& directory, const std::string& index_path);

  std::vector<MappedFile> files_;
  std::map<std::string, Tensor> tensors_;
  std::int64_t file_bytes_ = 0;
};

}  // namespace longshadow

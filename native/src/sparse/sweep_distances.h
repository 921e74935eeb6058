#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "longshadow/sparse_prefill.h"
#include "sparse/gallop.h"

namespace longshadow {

/// MInference's rule for the tiles of distances (arXiv:2407.02490, appendix C.4), for the query
/// block that begins at `position`. Distance d asks for the 64 keys that end at
/// end = max(position + 64 - d, 64). In ascending order of ends, one beyond the tiles so far adds a
/// tile: right behind the last one where that reaches `end`, else a new run that ends at `end`.
/// Calls run(begin, end) for each run of whole tiles, ascending.
template <typename Run>
void SweepDistances(std::span<const std::uint32_t> distances, std::int64_t position,
                    const Run& run) {
  const std::int64_t block_end = position + kBlockTokens;
  std::int64_t begin = 0;
  std::int64_t end = 0;  // 0: no run yet
  // Distances that meet no key, or one that the tiles so far hold, are passed over at once.
  for (std::size_t count = distances.size();
       (count = GallopDown(distances, count, block_end - end)) > 0;) {
    const std::int64_t wanted = std::max(block_end - distances[count - 1], kBlockTokens);
    if (end > 0 && wanted <= end + kBlockTokens) {
      end += kBlockTokens;
      continue;
    }
    if (end > 0) run(begin, end);
    begin = wanted - kBlockTokens;
    end = wanted;
  }
  if (end > 0) run(begin, end);
}

}  // namespace longshadow

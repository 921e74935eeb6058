#pragma once

#include "longshadow/backend.h"

namespace longshadow::bench {

/// One JSON line for each pattern that chooses whole key blocks, at 128K and at 1M keys: the time
/// of SelectKeys for a chunk of 16,384 rows, and for how many of the keys it decides.
void BlockSelections(Backend& backend);

}  // namespace longshadow::bench

#pragma once

#include "longshadow/backend.h"

namespace longshadow::bench {

/// Prints one JSON line a number of keys for the estimate of sparse prefill: its rate beside the
/// dense kernel's over the same rows and keys, and the times of what chooses a chunk's keys.
void TimeEstimates(Backend& backend);

}  // namespace longshadow::bench

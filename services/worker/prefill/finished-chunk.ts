import type { SegmentInfo } from '../../../native/ts/index.js';
import type { TokenRange } from '../../domain/token-range.js';
import { ServingError } from '../../domain/serving-error.js';

/**
 * The segment of a chunk that has run before, or null when the chunk is the next one.
 *
 * @throws ServingError WORKER_LOST if chunks before it are missing here: only a new plan helps;
 *   JOB_CORRUPT if it was cut otherwise before
 */
export function finishedChunk(
  segments: readonly SegmentInfo[],
  job: TokenRange,
): SegmentInfo | null {
  const { beginToken, endToken } = job;
  const same = segments.find((segment) => segment.beginToken === beginToken);
  if (same?.endToken === endToken) return same;
  const finishedTokens = segments.at(-1)?.endToken ?? 0;
  if (beginToken > finishedTokens) throw missingChunks(finishedTokens, beginToken);
  if (beginToken === finishedTokens) return null;
  throw new ServingError(
    'JOB_CORRUPT',
    `chunk [${String(beginToken)}, ${String(endToken)}) does not match the segments that are ` +
      `finished up to ${String(finishedTokens)}`,
  );
}

/** Chunks before a position are missing here: only a new plan helps. */
export function missingChunks(finishedTokens: number, wantedTokens: number): ServingError {
  return new ServingError(
    'WORKER_LOST',
    `segments are finished up to ${String(finishedTokens)} here, not ${String(wantedTokens)}`,
  );
}

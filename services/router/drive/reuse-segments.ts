import type { SegmentOrigin, SegmentRecord, SessionRecord } from '../../domain/session-record.js';
import { ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import type { ReuseSegmentsCall } from './peers.js';

/** What a session has of segments that it did not make. */
export interface LinkedSegments {
  readonly segments: readonly SegmentRecord[];
  readonly origins: readonly SegmentOrigin[];
}

/** Whose fingerprints the segments [0, endToken) of a session carry. */
export function originsOf(record: SessionRecord, endToken: number): SegmentOrigin[] {
  const origins: SegmentOrigin[] = [];
  for (const { beginToken, endToken: end } of record.segments) {
    if (end > endToken) break;
    const foreign = record.origins.find(
      (origin) => origin.beginToken <= beginToken && end <= origin.endToken,
    );
    const fingerprint = foreign?.fingerprint ?? record.fingerprint;
    const last = origins.at(-1);
    if (last?.fingerprint === fingerprint && last.endToken === beginToken) {
      origins[origins.length - 1] = { ...last, endToken: end };
    } else {
      origins.push({ beginToken, endToken: end, fingerprint });
    }
  }
  return origins;
}

/**
 * Links the finished segments [0, endToken) of a plan into a later one, or into another session.
 * @param into the session and plan that take them, which the worker must find in its record
 * @returns null if they are not all there any more
 */
export async function linkSegments(
  session: Pick<DrivenSession, 'deps' | 'signal'>,
  address: string,
  source: SessionRecord,
  into: { readonly sessionId: string; readonly epoch: number },
  endToken: number,
): Promise<LinkedSegments | null> {
  const { sessionId: sourceSessionId, epoch: sourceEpoch } = source;
  const call: ReuseSegmentsCall = {
    ...into,
    ...{ sourceSessionId, sourceEpoch, beginToken: 0, endToken },
  };
  try {
    const linked = await session.deps.workers.reuseSegments(address, call, session.signal);
    const segments = linked.map((segment) => ({ stage: 0, ...segment }));
    return { segments, origins: originsOf(source, endToken) };
  } catch (error) {
    if (!(error instanceof ServingError) || session.signal.aborted) throw error;
    session.deps.log.info({ err: error, ...into }, 'segments are run again, not linked');
    return null;
  }
}

import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecords } from '../../domain/session-store.js';
import type { TokenRange } from '../../domain/token-range.js';
import {
  findSegments,
  linkSegments,
  type LinkedSegments,
  type SessionPlan,
  sourceGone,
  type StoredSegment,
} from '../values/link-segments.js';
import type { PrefillEngine } from './prefill-engine.js';
import type { PrefillSessions } from './prefill-sessions.js';
import { refuseOver, refuseUnreserved } from './refuse-job.js';

export interface SegmentReuseOptions {
  readonly storeDir: string;
  readonly stage: number;
  readonly engine: Pick<PrefillEngine, 'segments'>;
  readonly sessions: PrefillSessions;
  readonly records: Pick<SessionRecords, 'load'>;
}

/** What is to be linked, and into what. */
export interface ReuseRequest extends TokenRange {
  readonly taker: SessionPlan;
  readonly source: SessionPlan;
}

/** Gives a session the segments that another one, or its own earlier plan, has at the same positions. */
export class SegmentReuse {
  constructor(private readonly options: SegmentReuseOptions) {}

  /**
   * Links the segments. An earlier plan of the same session is released after that.
   *
   * @throws ServingError SESSION_NOT_FOUND if the source has not all of them, or there is no record;
   *   STALE_EPOCH, SESSION_ENDED, RESERVATION_EXCEEDED; SESSION_BUSY if the session is open here
   *   without them, or has others there; VALUE_STORE_FULL
   */
  async reuse(request: ReuseRequest): Promise<readonly StoredSegment[]> {
    const { sessions, records } = this.options;
    const { taker, source, endToken } = request;
    sessions.refuseStale(taker.sessionId, taker.epoch);
    const record = refuseOver(await records.load(taker.sessionId), taker.epoch);
    refuseUnreserved(record, endToken);
    const { segments, undo } = this.#openSegments(request) ?? (await this.#link(request));
    try {
      // Its release may have come meanwhile, or a job that opened it without them.
      sessions.refuseStale(taker.sessionId, taker.epoch);
      this.#openSegments(request);
    } catch (error) {
      await undo();
      throw error;
    }
    if (source.sessionId === taker.sessionId) {
      await sessions.release(source.sessionId, source.epoch);
    }
    return segments;
  }

  async #link({ taker, source, ...range }: ReuseRequest): Promise<LinkedSegments> {
    const { storeDir, stage } = this.options;
    const found = await findSegments(storeDir, source, stage, range);
    if (found !== null) return linkSegments(storeDir, source, taker, stage, found);
    // Asked again, after its earlier plan was released: what it has is what was linked.
    const taken =
      source.sessionId === taker.sessionId
        ? await findSegments(storeDir, taker, stage, range)
        : null;
    if (taken === null) throw sourceGone();
    return nothingLinked(taken);
  }

  /**
   * The segments, if the session is open here and has them; null if it is not open.
   *
   * @throws ServingError SESSION_BUSY if it is open and has others: it would not see new files
   */
  #openSegments({ taker, beginToken, endToken }: ReuseRequest): LinkedSegments | null {
    const { engine, sessions } = this.options;
    const held = sessions.find(taker.sessionId);
    if (held?.epoch !== taker.epoch) return null;
    const inside = engine
      .segments(held.handle)
      .filter((segment) => segment.beginToken >= beginToken && segment.endToken <= endToken);
    if (inside.at(0)?.beginToken !== beginToken || inside.at(-1)?.endToken !== endToken) {
      throw new ServingError('SESSION_BUSY', 'chunks of the session run here already');
    }
    return nothingLinked(inside);
  }
}

function nothingLinked(segments: readonly StoredSegment[]): LinkedSegments {
  return { segments, undo: () => Promise.resolve() };
}

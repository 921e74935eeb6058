import { ServingError, type ErrorCode } from '../../../domain/serving-error.js';
import { RouterUnreachable } from '../../rpc/router-error.js';

/** Answers that tell to wait for room, which others free: they are waited for as told. */
const WAITS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['VALUE_STORE_FULL', 'TOO_MANY_SESSIONS', 'QUEUE_FULL', 'SESSION_BUSY'] as const),
]);
/** A part of the cluster is away: as if nothing were heard. */
const ABSENCES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['NO_WORKER', 'NO_DECODE', 'REDIS_UNAVAILABLE', 'SHUTTING_DOWN'] as const),
]);
/** The session is not there any more: what was prefilled has to be prefilled again. */
const GONE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['SESSION_NOT_FOUND', 'SESSION_ENDED', 'SESSION_LOST'] as const),
]);
/** Work that was lost and may be begun again, but not for ever. */
const LOSSES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...GONE,
  ...(['WORKER_LOST', 'DECODE_LOST', 'UPLOAD_LOST', 'DATA_LOSS'] as const),
]);
const MOST_LOSSES = 5;
const PAUSE_MS = 1_000;
/** A cluster may name any time; asking once a minute burdens nobody. */
const MOST_PAUSE_MS = 60_000;
/** As long as an answer of a very long prompt may take, for whose room a run waits. */
const MOST_WAITING_MS = 1_800_000;

/** Failures in a row of one piece of work. */
export interface Failures {
  losses: number;
  /** When the cluster began to be silent, or to have no room; null: it does not, as far as is known. */
  silentSinceMs: number | null;
  waitingSinceMs: number | null;
}

/**
 * How long a run goes on with a cluster that fails. Silence is measured from the first failure of a row,
 * and waiting for room from the first refusal of one; whatever the cluster does for the run besides
 * begins the row anew.
 */
export class Patience {
  #heardMs = -Infinity;
  #workedMs = -Infinity;

  /**
   * @param patienceMs of silence
   * @param now milliseconds, any origin
   */
  constructor(
    private readonly patienceMs: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The cluster said something. @param isWork it has done something for the run */
  heard(isWork: boolean): void {
    this.#heardMs = this.now();
    if (isWork) this.#workedMs = this.#heardMs;
  }

  begin(): Failures {
    return { losses: 0, silentSinceMs: null, waitingSinceMs: null };
  }

  /** Milliseconds after which to try again; null: it is time to give up. */
  pauseAfter(error: unknown, row: Failures): number | null {
    const nowMs = this.now();
    if (isOf(WAITS, error)) {
      row.waitingSinceMs = rowBegin(row.waitingSinceMs, this.#workedMs, nowMs);
      row.silentSinceMs = null;
      this.heard(false);
      return nowMs - row.waitingSinceMs < MOST_WAITING_MS ? toldPause(error) : null;
    }
    if (isOf(LOSSES, error)) {
      row.losses += 1;
      return row.losses < MOST_LOSSES ? PAUSE_MS : null;
    }
    if (!isAbsence(error)) return null;
    row.silentSinceMs = rowBegin(row.silentSinceMs, this.#heardMs, nowMs);
    return nowMs - row.silentSinceMs < this.patienceMs ? PAUSE_MS : null;
  }
}

/** Whether the same call may succeed another time. */
export function mayPass(error: unknown): boolean {
  return isOf(WAITS, error) || isOf(LOSSES, error) || isAbsence(error);
}

/** Whether a call was refused before any work, and may be made again. */
export function isRefusal(error: unknown): boolean {
  return isOf(WAITS, error) || isAbsence(error);
}

/** Whether a kept session that a call named does not exist any more. */
export function isSessionGone(error: unknown): boolean {
  return isOf(GONE, error);
}

/** A row that something else interrupted begins with this failure. */
function rowBegin(sinceMs: number | null, interruptedMs: number, nowMs: number): number {
  return sinceMs === null || interruptedMs > sinceMs ? nowMs : sinceMs;
}

function toldPause(error: unknown): number {
  const toldMs = error instanceof ServingError ? (error.details.retryAfterMs ?? 0) : 0;
  return Math.min(Math.max(toldMs, PAUSE_MS), MOST_PAUSE_MS);
}

function isAbsence(error: unknown): boolean {
  return isOf(ABSENCES, error) || error instanceof RouterUnreachable;
}

function isOf(codes: ReadonlySet<ErrorCode>, error: unknown): boolean {
  return error instanceof ServingError && codes.has(error.code);
}

import { randomBytes } from 'node:crypto';
import {
  cancelPrefillSession,
  closePrefillSession,
  openPrefillSession,
  removeSessionFiles,
  type EngineHandle,
  type PrefillChunkResult,
  type PrefillSessionHandle,
  type SparsePolicy,
  type ValueStoreHandle,
} from '../../../native/ts/index.js';
import { type CutRule, planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../domain/token-range.js';
import { runChunk } from './run-chunk.js';

/** A policy as it is measured. */
export interface MeasuredPolicy {
  readonly name: string;
  /** Null: dense. */
  readonly sparse: SparsePolicy | null;
  /** Chunks that begin at this position or later are left out; Infinity: none. */
  readonly untilToken: number;
}

/** One policy's part of one chunk, in one repeat. */
export interface MeasuredChunk extends TokenRange {
  readonly policy: string;
  /** From 0. */
  readonly repeat: number;
  readonly result: PrefillChunkResult;
}

/** One repeat of a measurement. */
export interface PrefillRepeat {
  readonly policies: readonly MeasuredPolicy[];
  readonly tokenIds: Uint32Array;
  readonly cutRule: CutRule;
  readonly repeat: number;
  /** Rejects what runs with CANCELLED. */
  readonly stop: AbortSignal;
}

interface Lane {
  readonly policy: MeasuredPolicy;
  readonly sessionId: string;
  readonly session: PrefillSessionHandle;
}

/**
 * Prefills one prompt under several policies at once, chunk by chunk and in turns, so that what else
 * the machine does falls on all of them alike. Nothing of it stays in the store.
 */
export async function* interleavedPrefill(
  engine: EngineHandle,
  store: ValueStoreHandle,
  { policies, tokenIds, cutRule, repeat, stop }: PrefillRepeat,
): AsyncGenerator<MeasuredChunk> {
  const lanes: Lane[] = [];
  const cancel = (): void => {
    for (const { session } of lanes) cancelPrefillSession(session);
  };
  try {
    for (const policy of policies) lanes.push(openLane(engine, store, policy));
    stop.addEventListener('abort', cancel);
    if (stop.aborted) cancel();
    for (const [turn, chunk] of planPrefillChunks(tokenIds.length, cutRule).entries()) {
      // Who begins changes with every chunk and repeat: the first one finds colder caches.
      for (const { policy, session } of rotated(lanes, turn + repeat)) {
        if (chunk.beginToken >= policy.untilToken) continue;
        const result = await runChunk(session, tokenIds, chunk);
        yield { ...chunk, policy: policy.name, repeat, result };
      }
    }
  } finally {
    stop.removeEventListener('abort', cancel);
    for (const { session, sessionId } of lanes) {
      await closePrefillSession(session);
      removeSessionFiles(store, sessionId);
    }
  }
}

function openLane(engine: EngineHandle, store: ValueStoreHandle, policy: MeasuredPolicy): Lane {
  const sessionId = randomBytes(16).toString('hex');
  const key = { sessionId, epoch: 1, stage: 0, fingerprint: sessionId, origins: [] };
  return { policy, sessionId, session: openPrefillSession(engine, store, key, policy.sparse) };
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const first = by % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}

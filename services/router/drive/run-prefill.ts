import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
  type PrefillJobResult,
} from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import { addSparseWork } from '../../domain/sparse-work.js';
import type { TurnRecord } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';
import { chargedTokens, shareOf } from '../admission/charged-tokens.js';
import { clipPromptLogprobs, nextChunk } from '../../domain/plan-prefill-chunks.js';
import type { DrivenSession } from './driven-session.js';
import { reserveOwnRoom } from './own-room.js';
import type { PrefixReuse } from './prefix-reuse.js';

/**
 * Runs a prompt's chunks one after the other, while the upload goes on, then seals it. Chunks that a
 * kept session has already are linked.
 * @throws ServingError of the worker or of Redis; VALUE_STORE_FULL; the signal's reason
 */
export async function runPrefill(session: DrivenSession, reuse: PrefixReuse): Promise<void> {
  const { tokens, signal } = session;
  await reserveOwnRoom(session);
  let sealed = false;
  for (;;) {
    const { nextToken, policy, turnCuts } = session.record;
    const chunk = nextChunk(tokens.planState(nextToken), policy.cutRule, turnCuts);
    if (chunk !== null) {
      if (!(await reuse.take(session, chunk))) sealed = await runChunk(session, chunk);
    } else if (!tokens.closed) await tokens.changed(signal);
    else if (tokens.received === nextToken && session.record.uploadClosed) break;
    else await session.uploadWritten();
  }
  await session.change({ state: 'sealing' });
  const end = tokens.received;
  if (!sealed) await runJob(session, 'seal', { beginToken: end, endToken: end });
  await session.change(({ turn }) => ({ sealedTokens: end, turn: prefilled(turn, end, session) }));
}

/** A turn that decode appended lies behind the seal: a new plan changes nothing of it. */
function prefilled(turn: TurnRecord, end: number, { deps }: DrivenSession): TurnRecord {
  if (turn.beginToken >= end) return turn;
  return { ...turn, endToken: end, prefilledUnixMs: deps.nowUnixMs() };
}

/** @returns whether the prompt is sealed with it */
async function runChunk(session: DrivenSession, chunk: TokenRange): Promise<boolean> {
  const { tokens } = session;
  const { beginToken, endToken } = chunk;
  await session.surely(async () => tokens.keep(chunk));
  // Sent once the record says so: a worker refuses what its record does not know.
  await session.change({ receivedTokens: tokens.received });
  const { bytes, sealed, sparse } = await runJob(session, 'prefill', chunk);
  await session.change(({ segments, turn }) => ({
    nextToken: endToken,
    receivedTokens: tokens.received,
    segments: [...segments, { stage: 0, beginToken, endToken, bytes }],
    turn: { ...turn, sparseWork: addSparseWork(turn.sparseWork, sparse) },
  }));
  return sealed;
}

/** Runs a job; one whose payload was damaged on its way is made again from the record, once. */
async function runJob(
  session: DrivenSession,
  kind: PrefillJob['kind'],
  chunk: TokenRange,
): Promise<PrefillJobResult> {
  try {
    return await sendJob(session, await makeJob(session, kind, chunk));
  } catch (error) {
    if (!isCorrupt(error)) throw error;
    session.deps.metrics.corruption('job');
  }
  try {
    return await sendJob(session, await makeJob(session, kind, chunk));
  } catch (error) {
    if (isCorrupt(error)) throw new ServingError('DATA_LOSS', error.message);
    throw error;
  }
}

function isCorrupt(error: unknown): error is ServingError {
  return error instanceof ServingError && error.code === 'JOB_CORRUPT';
}

async function sendJob(session: DrivenSession, job: PrefillJob): Promise<PrefillJobResult> {
  const { deps, signal, workerId, record } = session;
  const { sessionId, epoch } = job;
  session.currentJob = { workerId, jobId: prefillJobId(job) };
  const result = await deps.queues.run(workerId, job, {
    signal,
    share: shareOf(record),
    chargedTokens: chargedTokens(job, record.priority),
    isWorkerAlive: async () => deps.fleet.isAlive(workerId),
    isWorkerTaking: async () => deps.fleet.isTaking(workerId),
    onQueued: async (jobsAhead) => {
      const event = { type: 'queued', workerId, jobsAhead } as const;
      await session.surely(async () => deps.store.events.append(sessionId, epoch, event));
    },
  });
  session.currentJob = null; // after a failure it is removed by whoever ends or moves the session
  return result;
}

async function makeJob(
  session: DrivenSession,
  kind: PrefillJob['kind'],
  chunk: TokenRange,
): Promise<PrefillJob> {
  const { tokens, record } = session;
  const { beginToken, endToken } = chunk;
  const isLast = tokens.closed && endToken === tokens.received;
  const nextTokenId = await session.surely(async () => tokens.at(endToken));
  const { sessionId, epoch, modelFingerprint, fingerprint, deadlineUnixMs, traceparent } = record;
  return {
    schemaVersion: PREFILL_JOB_SCHEMA_VERSION,
    stage: 0,
    ...{ kind, sessionId, epoch, modelFingerprint, fingerprint, beginToken, endToken, nextTokenId },
    promptLogprobs:
      kind === 'seal' ? [] : clipPromptLogprobs(record.generation.promptLogprobs, chunk, isLast),
    cachedTokens: record.turn.cachedTokens,
    totalTokens: tokens.closed ? tokens.received : null,
    ...{ deadlineUnixMs, traceparent },
  };
}

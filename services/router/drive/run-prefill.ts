import { type PrefillJob, prefillJobId } from '../../domain/prefill-job.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';
import { clipPromptLogprobs, nextChunk } from '../plan/plan-prefill-chunks.js';
import type { DriveDeps } from './drive-deps.js';
import type { RecordKeeper } from './record-keeper.js';
import { retryWhileRedisIsAway } from './redis-gap.js';
import type { TokenBuffer } from './token-buffer.js';

/** A session on its way through one lane. */
export interface PrefillRun {
  readonly keeper: RecordKeeper;
  readonly tokens: TokenBuffer;
  readonly workerId: string;
  readonly signal: AbortSignal;
  /** The job that waits or runs now; null between jobs. */
  currentJobId: string | null;
}

/**
 * Runs a prompt's chunks one after the other, while the upload goes on, then seals it.
 * @throws ServingError of the worker or of Redis; the signal's reason
 */
export async function runPrefill(run: PrefillRun, deps: DriveDeps): Promise<void> {
  const { keeper, tokens, signal } = run;
  for (;;) {
    const { nextToken, policy } = keeper.current;
    const chunk = nextChunk(tokens.planState(nextToken), policy.cutRule);
    if (chunk !== null) await runChunk(run, deps, chunk);
    else if (!tokens.closed) await tokens.changed(signal);
    else if (tokens.received === nextToken) break;
  }
  await retryWhileRedisIsAway(signal, async () => keeper.change({ state: 'sealing' }));
  const end = tokens.received;
  await runJob(run, deps, makeJob(run, 'seal', { beginToken: end, endToken: end }));
}

async function runChunk(run: PrefillRun, deps: DriveDeps, chunk: TokenRange): Promise<void> {
  const { keeper, tokens, signal } = run;
  const { beginToken, endToken } = chunk;
  const { sessionId } = keeper.current;
  const ids = tokens.slice(beginToken, endToken);
  await retryWhileRedisIsAway(signal, async () =>
    deps.store.tokenIds.put(sessionId, beginToken, ids),
  );
  await retryWhileRedisIsAway(signal, async () =>
    keeper.change({ receivedTokens: tokens.received }),
  );
  const result = await runJob(run, deps, makeJob(run, 'prefill', chunk));
  const { segments } = keeper.current;
  const finished = [...segments, { stage: 0, beginToken, endToken, bytes: result.bytes }];
  await retryWhileRedisIsAway(signal, async () =>
    keeper.change({ nextToken: endToken, receivedTokens: tokens.received, segments: finished }),
  );
  tokens.drop(endToken);
}

async function runJob(
  run: PrefillRun,
  deps: DriveDeps,
  job: PrefillJob,
): Promise<{ readonly bytes: number }> {
  const { sessionId, epoch } = job;
  const { workerId, signal } = run;
  run.currentJobId = prefillJobId(job);
  try {
    return await deps.queues.run(workerId, job, {
      signal,
      isWorkerAlive: async () => deps.fleet.isAlive(workerId),
      onQueued: async (jobsAhead) => {
        const event = { type: 'queued', workerId, jobsAhead } as const;
        await retryWhileRedisIsAway(signal, async () =>
          deps.store.events.append(sessionId, epoch, event),
        );
      },
    });
  } finally {
    if (!signal.aborted) run.currentJobId = null;
  }
}

function makeJob(run: PrefillRun, kind: PrefillJob['kind'], chunk: TokenRange): PrefillJob {
  const { tokens } = run;
  const record: SessionRecord = run.keeper.current;
  const isLast = tokens.closed && chunk.endToken === tokens.received;
  return {
    schemaVersion: 1,
    kind,
    sessionId: record.sessionId,
    epoch: record.epoch,
    stage: 0,
    modelFingerprint: record.modelFingerprint,
    fingerprint: record.fingerprint,
    beginToken: chunk.beginToken,
    endToken: chunk.endToken,
    nextTokenId: tokens.at(chunk.endToken),
    promptLogprobs:
      kind === 'seal' ? [] : clipPromptLogprobs(record.generation.promptLogprobs, chunk, isLast),
    totalTokens: tokens.closed ? tokens.received : null,
    deadlineUnixMs: record.deadlineUnixMs,
    traceparent: record.traceparent,
  };
}

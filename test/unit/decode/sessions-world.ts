import assert from '../../support/assert.js';
import { setImmediate as tick } from 'node:timers/promises';
import type { DecodeSessionHandle } from '../../../native/ts/index.js';
import type { AnswerEnd } from '../../../services/decode/loop/accept-token.js';
import type { BatchSession } from '../../../services/decode/loop/batch-session.js';
import { DecodeSessions } from '../../../services/decode/sessions/decode-sessions.js';
import type { StartSession } from '../../../services/decode/sessions/requests.js';
import { NO_HISTORY } from './fake-loop.js';

export const [A, B] = ['a'.repeat(32), 'b'.repeat(32)] as const;
export const SEALED_TOKENS = 600;
export const EOS = 3;

/** A decode's sessions, without loop and engine; hand-offs arrive when the test says so. */
export function makeWorld({ maxSessions = 2, hasRoom = true } = {}) {
  const joined: BatchSession[] = [];
  const ends: (AnswerEnd | null)[] = [];
  const replayed: number[] = [];
  const left: BatchSession[] = [];
  const handOffs: { resolve: () => void; signal: AbortSignal }[] = [];
  const closed: DecodeSessionHandle[] = [];
  const sessions = new DecodeSessions({
    loop: {
      join: (session, end) => {
        joined.push(session);
        ends.push(end ?? null);
      },
      leave: (session) => {
        left.push(session);
        return Promise.resolve();
      },
      activeSessions: 7,
      privateBytes: () => 55,
      hasRoom: () => hasRoom,
    },
    decoder: { piece: () => 'x', join: (pieces) => pieces.join('') },
    maxSessions,
    endRules: { eosTokenIds: new Set([EOS]), maxPositions: 1000 },
    vocabSize: 100,
    expectedFingerprint: () => 'f'.repeat(32),
    fetchHandOff: (_request, signal) =>
      new Promise((resolve) => {
        handOffs.push({
          signal,
          resolve: () => {
            resolve(Uint8Array.of(1));
          },
        });
      }),
    openSession: () => Promise.resolve({ type: 'decode-session' }),
    sessionTokens: () => SEALED_TOKENS,
    closeHandle: (handle) => {
      closed.push(handle);
      return Promise.resolve();
    },
    nowUnixMs: () => 0,
    onReplayed: (tokens) => replayed.push(tokens),
    onReleased: () => undefined,
    onError: (error) => assert.fail(String(error)),
  });
  const started = async (request: StartSession): Promise<BatchSession> => {
    const start = sessions.start(request);
    await tick();
    handOffs.at(-1)?.resolve();
    assert.equal(await start, 7);
    const session = joined.at(-1);
    assert.ok(session);
    return session;
  };
  return { sessions, joined, ends, replayed, left, handOffs, closed, started };
}

export const turn: Pick<StartSession, 'generation' | 'context'> = {
  generation: {
    sampling: { temperature: 0, topK: 0, topP: 1, seed: '0' },
    stopping: { maxNewTokens: 8, stopTexts: [], ignoreEos: false },
    forcedTokenIds: [],
    promptLogprobs: [],
  },
  context: {
    policy: {
      prefillPolicy: 'dense',
      cachePolicy: 'full',
      dtype: 'bf16',
      cutRule: 'cpu',
      sparse: null,
    },
    admittedUnixMs: 0,
    prefilledUnixMs: 0,
    promptTokens: SEALED_TOKENS,
    cachedTokens: 0,
    workerIds: [],
    segmentBytes: 0,
    promptReran: false,
    sparseWork: null,
    keepSessionMs: 0,
    deadlineUnixMs: null,
    firstTokenUnixMs: null,
  },
};

export function start(more: Partial<StartSession> = {}): StartSession {
  const fence = { sessionId: A, epoch: 1, attempt: 1 };
  const from = { fingerprint: 'f'.repeat(32), workerAddress: 'worker:1', history: NO_HISTORY };
  return { ...fence, ...from, turn: 0, ...turn, ...more };
}

import assert from '../../support/assert.js';
import { setImmediate as tick } from 'node:timers/promises';
import type { DecodeItem, DecodeItemResult } from '../../../native/ts/index.js';
import type { SessionEvent } from '../../../services/domain/session-event.js';
import type { AnswerEnd, EndRules } from '../../../services/decode/loop/accept-token.js';
import { BatchSession } from '../../../services/decode/loop/batch-session.js';
import { DecodeLoop, type DecodeLoopOptions } from '../../../services/decode/loop/decode-loop.js';
import type { TokenDecoder } from '../../../services/decode/loop/detokenize.js';
import { EventPublisher } from '../../../services/decode/loop/event-publisher.js';
import type { TurnHistory, TurnRequest } from '../../../services/decode/loop/turn.js';

export const EOS = 3;
const END_RULES: EndRules = { eosTokenIds: new Set([EOS]), maxPositions: 100_000 };
const KV_BYTES_PER_TOKEN = 10;
export const PAGE_BYTES = 512 * KV_BYTES_PER_TOKEN;

/** Each id is one letter: 'a' is 97. */
export const letters: TokenDecoder = {
  piece: (tokenId) => (tokenId === EOS ? null : String.fromCharCode(tokenId)),
  join: (pieces) => pieces.join(''),
};

export interface StepCall {
  readonly items: DecodeItem[];
  /** Lets the step end. */
  readonly end: (results?: DecodeItemResult[]) => void;
  readonly fail: (error: Error) => void;
}

/** A loop over a stand-in for the engine whose steps end when the test says so. */
export function makeLoop(options: Partial<DecodeLoopOptions> = {}) {
  const calls: StepCall[] = [];
  const log: { sessionId: string; turn?: number; attempt?: number; event: SessionEvent }[] = [];
  const closed: string[] = [];
  const cancelled: unknown[] = [];
  const kept: BatchSession[] = [];
  const engineClosed = new Set<unknown>();
  let nowUnixMs = 1_000_000;
  const publisher = new EventPublisher({
    events: {
      appendAll: async (appends) => {
        await tick();
        return appends.map((append) => log.push(append));
      },
    },
    onRefused: () => undefined,
    onError: (error) => assert.fail(String(error)),
    sleep: () => Promise.resolve(),
    maxWaitingEvents: 64,
  });
  const loop = new DecodeLoop({
    engine: {
      step: (items) =>
        new Promise((resolve, reject) => {
          assert.ok(items.every(({ session }) => !engineClosed.has(session)));
          calls.push({ items, end: (r) => resolve(r ?? items.map(echo)), fail: reject });
        }),
      cancel: (handle) => cancelled.push(handle),
      close: (handle) => {
        assert.ok(!engineClosed.has(handle), 'closed once');
        engineClosed.add(handle);
        return Promise.resolve();
      },
    },
    publisher,
    decodeId: 'decode-test',
    endRules: END_RULES,
    kvBytesPerToken: KV_BYTES_PER_TOKEN,
    maxPrivateBytes: 1e9,
    nowUnixMs: () => nowUnixMs,
    toErrorCode: ({ code }) => (code === 'DATA_LOSS' ? code : 'INTERNAL'),
    onKept: (session) => kept.push(session),
    onClosed: (session) => closed.push(session.sessionId),
    onStep: () => undefined,
    onFinished: () => undefined,
    onTokenGap: () => undefined,
    onFailed: () => undefined,
    onHandedBack: () => undefined,
    onStepFailed: () => undefined,
    ...options,
  });
  const running = loop.run();
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 6; turn++) await tick();
  };
  return {
    loop,
    calls,
    log,
    closed,
    cancelled,
    kept,
    settle,
    pass: (ms: number) => (nowUnixMs += ms),
    /** The step that runs now. */
    async step(): Promise<StepCall> {
      await settle();
      const call = calls.at(-1);
      assert.ok(call !== undefined, 'no step runs');
      return call;
    },
    events: (sessionId: string) => log.filter((e) => e.sessionId === sessionId).map((e) => e.event),
    async stop(): Promise<void> {
      const stopping = loop.stop();
      calls.at(-1)?.end();
      await stopping;
      await running;
    },
  };
}

/** Samples 'a' plus the token's index, unless forced. */
export function echo(item: DecodeItem): DecodeItemResult {
  return {
    error: null,
    tokenId: item.sample ? (item.forcedTokenId ?? 97 + item.tokenIndex) : null,
    logprob: -1,
    rank: 1,
    targetLogprobs: item.logprobTargets && new Float32Array(item.logprobTargets).map((t) => -t),
    targetRanks: item.logprobTargets && new Uint32Array(item.logprobTargets.length).fill(2),
  };
}

export function turn(more: {
  maxNewTokens?: number;
  stopTexts?: string[];
  forcedTokenIds?: number[];
  ignoreEos?: boolean;
  keepSessionMs?: number;
  deadlineUnixMs?: number;
  promptLogprobs?: { beginToken: number; endToken: number }[];
  firstTokenUnixMs?: number;
  turn?: number;
}): TurnRequest {
  return {
    turn: more.turn ?? 0,
    generation: {
      sampling: { temperature: 0, topK: 0, topP: 1, seed: '18446744073709551615' },
      stopping: {
        maxNewTokens: more.maxNewTokens ?? 1000,
        stopTexts: more.stopTexts ?? [],
        ignoreEos: more.ignoreEos ?? false,
      },
      forcedTokenIds: more.forcedTokenIds ?? [],
      promptLogprobs: more.promptLogprobs ?? [],
    },
    context: {
      policy: {
        prefillPolicy: 'dense',
        cachePolicy: 'full',
        dtype: 'bf16',
        cutRule: 'cpu',
        sparse: null,
      },
      admittedUnixMs: 999_000,
      prefilledUnixMs: 999_600,
      promptTokens: 700,
      cachedTokens: 0,
      workerIds: ['worker-1'],
      segmentBytes: 7000,
      promptReran: false,
      sparseWork: null,
      keepSessionMs: more.keepSessionMs ?? 0,
      deadlineUnixMs: more.deadlineUnixMs ?? null,
      firstTokenUnixMs: more.firstTokenUnixMs ?? null,
    },
  };
}

export function session(sessionId: string, sealedTokens = 700): BatchSession {
  return new BatchSession(sessionId, 1, 1, { type: 'decode-session' }, sealedTokens);
}

export const NO_HISTORY: TurnHistory = {
  tokenIds: new Uint32Array(0),
  answeredTokens: 0,
  turnBeginToken: 0,
  answers: [],
};

/** A session whose turn begins where its history ends, as DecodeSessions starts it. */
export async function resumed(
  sessionId: string,
  request: TurnRequest,
  history: TurnHistory,
  sealedTokens = 700,
): Promise<{ session: BatchSession; end: AnswerEnd | null }> {
  const resumed = session(sessionId, sealedTokens);
  const end = await resumed.resumeTurn(request, history, letters, END_RULES);
  return { session: resumed, end };
}

/** A session whose first turn begins right after the seal. */
export async function begun(
  sessionId: string,
  request: TurnRequest,
  sealedTokens = 700,
): Promise<BatchSession> {
  return (await resumed(sessionId, request, NO_HISTORY, sealedTokens)).session;
}

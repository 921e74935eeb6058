import { setTimeout as sleep } from 'node:timers/promises';
import {
  cancelDecodeSession,
  closeDecodeSession,
  decodeSessionTokens,
  decodeStep,
  engineCounters,
  openDecodeSession,
} from '../../native/ts/index.js';
import type { SessionStore } from '../domain/session-store.js';
import type { EngineHost } from '../engine-host/engine-host.js';
import { hostStatus } from '../engine-host/host-status.js';
import { CODE_BY_NATIVE_CODE } from '../engine-host/native-error-code.js';
import type { Log } from '../platform/log.js';
import type { DecodeSettings } from './config.js';
import type { EndRules } from './loop/accept-token.js';
import { DecodeLoop } from './loop/decode-loop.js';
import { loadTokenDecoder } from './loop/detokenize.js';
import { generationEosTokenIds } from './loop/end-rules.js';
import { EventPublisher } from './loop/event-publisher.js';
import { lostTokens } from './loop/turn-failure.js';
import type { DecodeMetrics } from './metrics.js';
import type { DecodeOperations } from './rpc/decode-service.js';
import type { WorkerClients } from './rpc/worker-client.js';
import { DecodeSessions } from './sessions/decode-sessions.js';

/** Events that may wait for Redis before the loop does: a few steps of a full batch. */
const MAX_WAITING_EVENTS = 256;

/** A decode's parts, wired but for what reaches the network. */
export interface DecodeParts {
  readonly loop: DecodeLoop;
  readonly publisher: EventPublisher;
  readonly sessions: DecodeSessions;
  readonly operations: DecodeOperations;
}

export interface DecodeOutside {
  readonly host: EngineHost;
  readonly store: Pick<SessionStore, 'events'>;
  readonly workers: WorkerClients;
  readonly metrics: DecodeMetrics;
  readonly log: Log;
}

/** @throws ServingError MODEL_INVALID if tokenizer.json or generation_config.json is unreadable */
export async function assembleDecode(
  settings: DecodeSettings,
  outside: DecodeOutside,
): Promise<DecodeParts> {
  const { host } = outside;
  const publisher = makePublisher(outside, () => sessions);
  const endRules = await endRulesOf(settings, host);
  /** As they were when the last step ended: while one runs, only one of them counts it. */
  let stepCounts = { decodeCalls: 0, decodeSteps: 0 };
  const stepEnded = (): void => {
    stepCounts = { decodeCalls: engineCounters(host.engine).decodeSteps, decodeSteps: loop.steps };
  };
  const loop: DecodeLoop = makeLoop(
    settings,
    outside,
    publisher,
    endRules,
    () => sessions,
    stepEnded,
  );
  const sessions: DecodeSessions = new DecodeSessions({
    loop,
    decoder: await loadTokenDecoder(settings.modelDir),
    maxSessions: settings.maxSessions,
    endRules,
    vocabSize: host.info.vocabSize,
    expectedFingerprint: host.fingerprint,
    fetchHandOff: (request, signal) =>
      outside.workers.fetchHandOff(request.workerAddress, request, signal),
    openSession: (key, handOff) => openDecodeSession(host.engine, host.valueStore, key, handOff),
    sessionTokens: decodeSessionTokens,
    closeHandle: closeDecodeSession,
    nowUnixMs: () => Date.now(),
    onReplayed: outside.metrics.replayed,
    onReleased: outside.metrics.released,
    onError: (error) => {
      outside.log.error({ err: error }, 'a kept session could not be released');
    },
  });
  const operations: DecodeOperations = {
    sessions,
    status: () => ({
      ...hostStatus(host),
      sessions: sessions.count,
      ...stepCounts,
    }),
  };
  return { loop, publisher, sessions, operations };
}

async function endRulesOf({ modelDir }: DecodeSettings, { info }: EngineHost): Promise<EndRules> {
  const eosTokenIds = await generationEosTokenIds(modelDir);
  return {
    eosTokenIds: new Set([...info.eosTokenIds, ...eosTokenIds]),
    maxPositions: info.maxPositions,
  };
}

function makePublisher(
  { store, log }: DecodeOutside,
  sessions: () => DecodeSessions,
): EventPublisher {
  const publisher: EventPublisher = new EventPublisher({
    events: store.events,
    onRefused: (refused, refusal) => {
      const { sessionId, attempt, turn, event } = refused;
      log.info(
        { sessionId, attempt, turn, event: event.type, refusal },
        'the turn takes no more events',
      );
      sessions()
        .refused(refused, refusal)
        .catch((error: unknown) => {
          log.error({ err: error, sessionId }, 'the session could not be released');
        });
      const given = lostTokens(refused, refusal);
      if (given !== null) publisher.push(given);
    },
    onError: (error) => {
      log.warn({ err: error }, 'events could not be appended; trying again');
    },
    sleep,
    maxWaitingEvents: MAX_WAITING_EVENTS,
  });
  return publisher;
}

function makeLoop(
  settings: DecodeSettings,
  { host, metrics, log }: DecodeOutside,
  publisher: EventPublisher,
  endRules: EndRules,
  sessions: () => DecodeSessions,
  stepEnded: () => void,
): DecodeLoop {
  const { engine, info } = host;
  return new DecodeLoop({
    engine: {
      step: (items) => decodeStep(engine, items).finally(stepEnded),
      cancel: cancelDecodeSession,
      close: closeDecodeSession,
    },
    publisher,
    decodeId: host.memberId,
    endRules,
    kvBytesPerToken: info.kvBytesPerToken,
    maxPrivateBytes: settings.maxPrivateBytes,
    nowUnixMs: () => Date.now(),
    toErrorCode: ({ code }) => CODE_BY_NATIVE_CODE[code],
    onKept: (session, keptUntilUnixMs) => {
      sessions().kept(session, keptUntilUnixMs);
    },
    onClosed: (session) => {
      sessions().closed(session);
    },
    onStep: metrics.stepRan,
    onFinished: metrics.finished,
    onTokenGap: metrics.tokenGap,
    onFailed: metrics.failed,
    onHandedBack: metrics.handedBack,
    onStepFailed: (error) => {
      log.error({ err: error }, 'a decode step failed');
    },
  });
}

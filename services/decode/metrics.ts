import { Counter, type Registry } from 'prom-client';
import {
  cancelToFreeSeconds,
  dataLossTotal,
  decodeStepSeconds,
  generatedTokensTotal,
  interTokenSeconds,
  sessionsGauge,
  timePerOutputTokenSeconds,
} from '../platform/metrics.js';
import type { ErrorCode } from '../domain/serving-error.js';
import type { TurnReport } from '../domain/session-event.js';

/** What the decode measures. */
export interface DecodeMetrics {
  readonly stepRan: (step: { sessions: number; tokens: number; seconds: number }) => void;
  readonly finished: (report: Pick<TurnReport, 'completionTokens' | 'decodeMs'>) => void;
  /** A token came so long after the one before it, in the same attempt. */
  readonly tokenGap: (seconds: number) => void;
  readonly failed: (code: ErrorCode) => void;
  readonly handedBack: (code: ErrorCode) => void;
  /** A session goes on here, and so many tokens are run again for it. */
  readonly replayed: (tokens: number) => void;
  readonly released: (cancelToFreeMs: number) => void;
  readonly holds: (sessions: number) => void;
}

/** Every series is there from the start. */
export function decodeMetrics(registry: Registry, model: string): DecodeMetrics {
  const { batched, replayed, handedBack } = makeCounters(registry);
  const tokenGap = interTokenSeconds(registry);
  const stepSeconds = decodeStepSeconds(registry);
  const generatedTokens = generatedTokensTotal(registry);
  const timePerToken = timePerOutputTokenSeconds(registry);
  const dataLoss = dataLossTotal(registry);
  const cancelToFree = cancelToFreeSeconds(registry);
  const openSessions = sessionsGauge(registry);
  return {
    stepRan({ sessions, tokens, seconds }) {
      stepSeconds.observe(seconds);
      generatedTokens.inc({ model }, tokens);
      batched.inc(sessions);
    },
    finished({ completionTokens, decodeMs }) {
      if (completionTokens < 2) return; // nothing after the first token
      const seconds = decodeMs / 1000 / (completionTokens - 1);
      timePerToken.observe({ model }, seconds);
    },
    failed(code) {
      if (code === 'DATA_LOSS') dataLoss.inc({ kind: 'decode' });
    },
    tokenGap(seconds) {
      tokenGap.observe({ model }, seconds);
    },
    handedBack(code) {
      handedBack.inc({ code });
    },
    replayed(tokens) {
      replayed.inc(tokens);
    },
    released(cancelToFreeMs) {
      cancelToFree.observe({ phase: 'decode' }, cancelToFreeMs / 1000);
    },
    holds(sessions) {
      openSessions.set({ state: 'open' }, sessions);
    },
  };
}

/** Series that only a decode has. */
function makeCounters(registry: Registry) {
  const registers = [registry];
  return {
    batched: new Counter({
      name: 'longshadow_decode_batched_sessions_total',
      help: 'Sessions over all decode steps; divided by the steps, the mean batch',
      registers,
    }),
    replayed: new Counter({
      name: 'longshadow_replayed_tokens_total',
      help: 'Tokens that were run again for sessions that another attempt had decoded',
      registers,
    }),
    handedBack: new Counter({
      name: 'longshadow_turns_handed_back_total',
      help: 'Turns that this decode gave back, to be run elsewhere, by reason',
      labelNames: ['code'],
      registers,
    }),
  };
}

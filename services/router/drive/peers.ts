import type { GenerationOptions } from '../../domain/sampling.js';
import type { ResolvedPolicy } from '../../domain/policy.js';

/** What a decode's final report says about the time before it. */
export interface TurnContext {
  readonly policy: ResolvedPolicy;
  readonly admittedUnixMs: number;
  readonly prefilledUnixMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly workerIds: readonly string[];
  readonly segmentBytes: number;
  readonly promptReran: boolean;
  readonly keepSessionMs: number;
  readonly deadlineUnixMs: number | null;
}

export interface StartSessionCall {
  readonly sessionId: string;
  readonly epoch: number;
  readonly fingerprint: string;
  readonly workerAddress: string;
  readonly generation: GenerationOptions;
  readonly context: TurnContext;
  readonly traceparent: string | null;
}

export interface AppendTurnCall {
  readonly sessionId: string;
  readonly epoch: number;
  readonly tokenIds: readonly number[];
  readonly generation: GenerationOptions;
  readonly context: TurnContext;
  readonly traceparent: string | null;
}

/** Counters of a member, as its GetStatus gives them. */
export interface MemberCounters {
  readonly sessions: number;
  readonly storeFiles: number;
  readonly storeFileBytes: number;
  readonly mappings: number;
  readonly mappedBytes: number;
  readonly privateBytes: number;
  readonly residentBytes: number;
  readonly prefillChunks: number;
  readonly decodeCalls: number;
  readonly decodeSteps: number;
}

/** Calls to workers; rpc/worker-client.ts makes them. All reject with ServingError. */
export interface WorkerPeers {
  /** Settles when the session's memory there is free. */
  releaseSession(address: string, sessionId: string, epoch: number): Promise<void>;
  getStatus(address: string): Promise<MemberCounters>;
}

/** Calls to decodes; rpc/decode-client.ts makes them. All reject with ServingError. */
export interface DecodePeers {
  startSession(address: string, call: StartSessionCall, signal: AbortSignal): Promise<void>;
  /** @returns absolute position of the turn's first token */
  appendTurn(address: string, call: AppendTurnCall, signal: AbortSignal): Promise<number>;
  releaseSession(address: string, sessionId: string): Promise<void>;
  getStatus(address: string): Promise<MemberCounters>;
}

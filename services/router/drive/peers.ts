import type { GenerationOptions } from '../../domain/sampling.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import type { SparseWork } from '../../domain/sparse-work.js';
import type { TokenRange } from '../../domain/token-range.js';

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
  readonly sparseWork: SparseWork | null;
  readonly keepSessionMs: number;
  readonly deadlineUnixMs: number | null;
  /** Null unless an earlier attempt generated it. */
  readonly firstTokenUnixMs: number | null;
}

export interface StartSessionCall {
  readonly sessionId: string;
  readonly epoch: number;
  readonly fingerprint: string;
  readonly workerAddress: string;
  readonly attempt: number;
  readonly turn: number;
  /** Tokens after the sealed ones, to be run again: ended turns, this turn's prompt, its answer so far. */
  readonly historyTokenIds: readonly number[];
  /** How many of the last of them are this turn's answer. */
  readonly answeredTokens: number;
  readonly turnBeginToken: number;
  /** Answers of ended turns among the history, by absolute position. */
  readonly answers: readonly TokenRange[];
  readonly generation: GenerationOptions;
  readonly context: TurnContext;
  readonly traceparent: string | null;
}

export interface AppendTurnCall {
  readonly sessionId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly turn: number;
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

/** What is to be linked, and into what. */
export interface ReuseSegmentsCall extends TokenRange {
  readonly sessionId: string;
  readonly epoch: number;
  readonly sourceSessionId: string;
  readonly sourceEpoch: number;
}

/** A linked segment. */
export interface ReusedSegment extends TokenRange {
  readonly bytes: number;
}

/** Calls to workers; rpc/worker-client.ts makes them. All reject with ServingError. */
export interface WorkerPeers {
  /** Settles when the session's memory there is free. */
  releaseSession(address: string, sessionId: string, epoch: number): Promise<void>;
  /** Links finished segments. @throws ServingError SESSION_NOT_FOUND if the source has not all of them */
  reuseSegments(
    address: string,
    call: ReuseSegmentsCall,
    signal: AbortSignal,
  ): Promise<readonly ReusedSegment[]>;
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

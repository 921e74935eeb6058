/*
 * The native seam. Mirrors native/binding: same names, same order. Absent values are null, never
 * undefined, so a misspelt field fails loudly in the binding instead of reading as "not set".
 * Only native/ts imports this file; defaults and validation belong to callers.
 *
 * Every promise settles from the engine's own thread, or from the one file thread of the process's
 * environment, never from libuv's pool. Rejections are Error objects whose `code` is a NativeErrorCode (errors.ts).
 */

export type Device = 'cpu' | 'reference';
export type ComputeDtype = 'bf16' | 'fp32';
export type NativeErrorCode =
  | 'INVALID_ARGUMENT'
  | 'MODEL_INVALID'
  | 'UNSUPPORTED'
  | 'VALUE_STORE_FULL'
  | 'DATA_LOSS'
  | 'CANCELLED'
  | 'IO'
  | 'INTERNAL';

/** Opaque handles; the C++ side owns the memory and frees it at close or collection. */
export interface EngineHandle {
  readonly type: 'engine';
}
export interface ValueStoreHandle {
  readonly type: 'value-store';
}
export interface PrefillSessionHandle {
  readonly type: 'prefill-session';
}
export interface DecodeSessionHandle {
  readonly type: 'decode-session';
}

export interface EngineOptions {
  modelDirectory: string;
  device: Device;
  dtype: ComputeDtype;
  /** Compute threads; 0 for one a core. */
  threads: number;
  /** First layer of this stage. */
  layerBegin: number;
  /** One past the stage's last layer; null for the model's last. */
  layerEnd: number | null;
}

export interface EngineInfo {
  modelType: string;
  layers: number;
  layerBegin: number;
  layerEnd: number;
  hiddenSize: number;
  ffnSize: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
  vocabSize: number;
  maxPositions: number;
  ropeTheta: number;
  tiedEmbeddings: boolean;
  bosTokenId: number | null;
  eosTokenIds: number[];
  device: Device;
  dtype: ComputeDtype;
  instructionSet: string;
  parameters: number;
  weightFileBytes: number;
  packedBytes: number;
  /** 32 hex digits over config.json and every tensor's name, dtype, shape and CRC32C. */
  modelFingerprint: string;
  /** K and V bytes of one token over this stage's layers. */
  kvBytesPerToken: number;
}

export interface EngineCounters {
  prefillChunks: number;
  prefillTokens: number;
  /** Native decode calls: one a step for the whole batch. */
  decodeSteps: number;
  decodeTokens: number;
}

export interface ValueStoreStatus {
  /** Bytes of files under the store's directory, of all processes; linked ones count once. */
  fileBytes: number;
  /** Names of such files. */
  files: number;
  /** Segment mappings and private KV pages alive in this process. */
  mappings: number;
  mappedBytes: number;
  privateBytes: number;
  freeBytes: number;
  capacityBytes: number;
}

export interface SessionKey {
  /** 32 lower-case hex digits. */
  sessionId: string;
  epoch: number;
  stage: number;
  /** 32 lower-case hex digits; stamped on and compared with every block of bytes. */
  fingerprint: string;
  /**
   * Prefill only: ranges of positions whose segments carry another fingerprint, since another session
   * or plan made them; ascending, not overlapping, ends are ends of segments. The hand-off passes them
   * on to decode, whose key has none.
   */
  origins: SegmentOrigin[];
}

export interface SegmentOrigin {
  beginToken: number;
  endToken: number;
  /** 32 lower-case hex digits. */
  fingerprint: string;
}

export interface SegmentInfo {
  beginToken: number;
  endToken: number;
  bytes: number;
}

/** How a prefill session's chunks choose their keys. Resolved at admission: nothing depends on the host. */
export interface SparsePolicy {
  /** A chunk that ends at or before this position is dense. */
  denseBelowTokens: number;
  /**
   * [layers of the stage][query heads][4]: pattern (0 dense, 1 A-shape, 2 vertical-slash,
   * 3 block-sparse, 4 FlexPrefill, 5 key-bounds), columns, distances, tiles; see HeadBudget in
   * sparse_prefill.h. Copied.
   */
  budgets: Float64Array;
  /** FlexPrefill: share of the attention mass to cover, in (0, 1]. */
  gamma: number;
  /** FlexPrefill: most distance of pooled to true attention of a query-aware head. */
  tau: number;
  /** FlexPrefill: least key tiles of a query block. */
  minTiles: number;
  /** One of so many (chunk, layer) pairs has a query block computed densely too; 0: none. */
  guardInterval: number;
}

export interface PrefillChunkRequest {
  /** Token ids of this chunk. Not copied: do not mutate until settled. */
  tokenIds: Uint32Array;
  /** Prompt position of tokenIds[0]. */
  beginToken: number;
  /** The prompt's token after the chunk; null if unknown or not wanted. */
  nextTokenId: number | null;
  /** Ascending positions p in (beginToken, beginToken + length] whose log-probability is wanted. */
  logprobPositions: Float64Array;
  /**
   * Rows from this position on are dense in a sparse session too: the prompt's last 128. At or after
   * beginToken; null for none.
   */
  denseFromToken: number | null;
}

export interface PrefillChunkResult {
  segment: SegmentInfo;
  /** Natural log, f32, one a logprob position. */
  logprobs: Float32Array;
  /** 1 = top. */
  ranks: Uint32Array;
  engineMicros: number;
  /** All of attention, with the sparse part's estimate and index. */
  attentionMicros: number;
  sparse: SparseStats;
}

/**
 * What attention of a sparse session's chunk did; zeros in a dense session.
 *
 * Keys are those of query blocks: 64 queries that see 128 keys count 128. By pattern and by layer the
 * same keys are summed, over every row, layer and query head of the chunk: dense rows, layers and
 * chunks count, as dense whatever their heads' patterns, with as many keys attended as causal.
 */
export interface SparseStats {
  /** [6], by pattern as SparsePolicy numbers them: keys attended to; [0] is all dense work. */
  attendedKeys: Float64Array;
  /** As attendedKeys: keys that dense attention would have seen. */
  causalKeys: Float64Array;
  /** [layers of the stage]: keys attended to; their sum is that of attendedKeys. */
  layerAttendedKeys: Float64Array;
  /** As layerAttendedKeys: keys that dense attention would have seen. */
  layerCausalKeys: Float64Array;
  /** Of sparse layers alone, from here on: scores and selection of keys. */
  estimateMicros: number;
  indexMicros: number;
  /** Attention over the selected keys. */
  attentionMicros: number;
  /** Query blocks (one query head each) that the guard computed densely too. */
  guardBlocks: number;
  /** Of their relative L2 errors |sparse - dense| / |dense|. */
  guardErrorSum: number;
  guardErrorMax: number;
}

/** A query head under one of the candidates that are tried. */
export interface TriedHead {
  /** Of the stage. */
  layer: number;
  head: number;
  candidate: number;
}

/** The keys of one head's query blocks of 64 rows, in CSR: runs of keys and single columns. */
export interface HeadKeys {
  /** First row of the first query block. */
  beginToken: number;
  /** [query blocks + 1], in ranges. */
  rangeOffsets: Float64Array;
  /** [ranges][2]: first key, and one past the last, which may lie past a row of the block. */
  ranges: Uint32Array;
  /** [query blocks + 1]. */
  columnOffsets: Float64Array;
  columns: Uint32Array;
}

export interface PatternTrialResult {
  segment: SegmentInfo;
  /** Rows that were compared: the chunk's that would be sparse in serving. */
  rows: number;
  /**
   * [layers][query heads][candidates]: relative L2 error of attention's output, summed over the
   * compared rows.
   */
  errors: Float64Array;
  /** As errors: keys that the query blocks attended to (64 queries that see 128 keys count 128). */
  attendedKeys: Float64Array;
  /** Of the head that was asked for; null for none. */
  shown: HeadKeys | null;
}

export interface SamplingParameters {
  /** 0: greedy. */
  temperature: number;
  /** 0: off. */
  topK: number;
  topP: number;
  seed: bigint;
}

export interface DecodeItem {
  session: DecodeSessionHandle;
  /** Tokens to append before sampling: none right after the seal, one a step, up to 256 of a turn. */
  tokenIds: Uint32Array;
  /** The target each appended row predicts, 0xffffffff for none; null when no row wants one. */
  logprobTargets: Uint32Array | null;
  sample: boolean;
  sampling: SamplingParameters;
  /** Index of the generated token, for randomness. */
  tokenIndex: number;
  /** Teacher forcing: taken instead of sampling; null to sample. */
  forcedTokenId: number | null;
}

export interface DecodeItemResult {
  /** This session's own failure; the others went on. */
  error: { code: NativeErrorCode; message: string } | null;
  tokenId: number | null;
  /** Of tokenId under the unmodified distribution, natural log. */
  logprob: number;
  /** Of tokenId, 1 = top. */
  rank: number;
  targetLogprobs: Float32Array | null;
  targetRanks: Uint32Array | null;
}

export interface Addon {
  /** Maps, checks and packs a model's weights. */
  openEngine(options: EngineOptions): Promise<EngineHandle>;
  engineInfo(engine: EngineHandle): EngineInfo;
  engineCounters(engine: EngineHandle): EngineCounters;
  /** Lets running work end, then frees the weights and ends the engine's thread. Idempotent. */
  closeEngine(engine: EngineHandle): Promise<void>;

  openValueStore(directory: string): ValueStoreHandle;
  /** Walks every file of the store: not for what runs often. */
  valueStoreStatus(store: ValueStoreHandle): ValueStoreStatus;
  /** `freeBytes` of the status at the cost of one system call. */
  valueStoreFreeBytes(store: ValueStoreHandle): number;
  /** Unlinks a session's files; mappings outlive it. */
  removeSessionFiles(store: ValueStoreHandle, sessionId: string): void;

  /**
   * Adopts finished segments that are on disk, from position 0 on without a gap: within an origin those
   * that carry its fingerprint, elsewhere those of the key. Others are removed.
   *
   * sparse: how its chunks attend, checked at once and copied; null for dense ones.
   */
  openPrefillSession(
    engine: EngineHandle,
    store: ValueStoreHandle,
    key: SessionKey,
    sparse: SparsePolicy | null,
  ): PrefillSessionHandle;
  prefillSessionSegments(session: PrefillSessionHandle): SegmentInfo[];
  /** onProgress: share of the chunk's work done, (0, 1], at most one pending call at a time. */
  prefillChunk(
    session: PrefillSessionHandle,
    request: PrefillChunkRequest,
    onProgress: (share: number) => void,
  ): Promise<PrefillChunkResult>;
  /**
   * A dense chunk beside which candidate patterns are tried for every query head; never used in serving.
   * Rows from denseFromToken on are not compared. A session that was opened with a sparse policy is
   * refused.
   * candidates: budgets as SparsePolicy has them, [candidates][4]. shown: whose keys are wanted, or null.
   */
  tryPatterns(
    session: PrefillSessionHandle,
    request: PrefillChunkRequest,
    candidates: Float64Array,
    shown: TriedHead | null,
  ): Promise<PatternTrialResult>;
  /** The hand-off: self-describing, with length, CRC32C and fingerprint. */
  sealPrefillSession(session: PrefillSessionHandle): Promise<Uint8Array>;
  /** Raises the cancellation flag: running and later work rejects with CANCELLED. */
  cancelPrefillSession(session: PrefillSessionHandle): void;
  /**
   * Unmaps when idle, else when the running call has ended; a large session on the file thread.
   * Settles when the memory is free. Idempotent: a second close settles no earlier.
   */
  closePrefillSession(session: PrefillSessionHandle): Promise<void>;

  /** Checks the hand-off against the key and maps its segments. */
  openDecodeSession(
    engine: EngineHandle,
    store: ValueStoreHandle,
    key: SessionKey,
    handOff: Uint8Array,
  ): Promise<DecodeSessionHandle>;
  /** An empty session on private pages, for work straight on the engine. */
  openScratchSession(engine: EngineHandle): DecodeSessionHandle;
  /** One native call a step for the whole batch. Results in order of items. */
  decodeStep(engine: EngineHandle, items: DecodeItem[]): Promise<DecodeItemResult[]>;
  /** Appends tokens; logits f32 [rows.length, vocabSize] of the given rows. Never used in serving. */
  appendLogits(
    session: DecodeSessionHandle,
    tokenIds: Uint32Array,
    rows: Float64Array,
  ): Promise<Float32Array>;
  decodeSessionTokens(session: DecodeSessionHandle): number;
  cancelDecodeSession(session: DecodeSessionHandle): void;
  /** As closePrefillSession; frees private pages too. */
  closeDecodeSession(session: DecodeSessionHandle): Promise<void>;
}

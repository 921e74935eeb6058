/** A worker or decode as its heartbeat (every 2 s, lives 6 s) describes it. */
export interface FleetMember {
  /** Unique per process life: `<role>-<8 hex>`, or a configured stable name. */
  readonly memberId: string;
  readonly role: 'worker' | 'decode';
  /** host:port of its gRPC service. */
  readonly address: string;
  readonly model: string;
  readonly modelFingerprint: string;
  readonly dtype: 'bf16' | 'fp32';
  readonly device: string;
  readonly instructionSet: string;
  readonly stage: number;
  readonly stages: number;
  readonly layerBegin: number;
  readonly layerEnd: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly eosTokenIds: readonly number[];
  readonly kvBytesPerToken: number;
  /**
   * Of the head patterns that a worker has read, 64 hex digits: sessions of minference prefill run
   * only where it is theirs. '' for a decode, which reads none: what it appends is dense.
   */
  readonly patternsSha256: string;
  /** Same value: same host and same store directory, so segments can be mapped. */
  readonly storeId: string;
  /** Bytes that sessions may reserve in this store. */
  readonly storeCapacityBytes: number;
  readonly storeFreeBytes: number;
  readonly activeSessions: number;
  /**
   * Sessions that the member holds at once, kept ones included; 0: it sets no limit of its own. A
   * worker's is 0: what its sessions take is bounded by storeCapacityBytes.
   */
  readonly maxSessions: number;
  /**
   * Bytes that a decode grants to K and V of generated tokens and appended turns, over all its
   * sessions, in whole pages; a worker's is 0: it holds none.
   */
  readonly privateCapacityBytes: number;
  /** True after SIGTERM: takes no new sessions. */
  readonly draining: boolean;
  readonly startedUnixMs: number;
}

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
  /** Same value: same host and same store directory, so segments can be mapped. */
  readonly storeId: string;
  /** Bytes that sessions may reserve in this store. */
  readonly storeCapacityBytes: number;
  readonly storeFreeBytes: number;
  readonly activeSessions: number;
  /** True after SIGTERM: takes no new sessions. */
  readonly draining: boolean;
  readonly startedUnixMs: number;
}

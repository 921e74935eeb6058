import type {
  PrefillChunkRequest,
  PrefillChunkResult,
  PrefillSessionHandle,
  SegmentInfo,
  SessionKey,
  SparsePolicy,
} from '../../../native/ts/index.js';

/** What prefill asks of the native engine and its value store; the worker binds it to the add-on. */
export interface PrefillEngine {
  /**
   * Adopts the finished segments of the same key that are on disk.
   * @param sparse how its chunks attend; null for dense ones
   */
  open(key: SessionKey, sparse: SparsePolicy | null): PrefillSessionHandle;
  segments(session: PrefillSessionHandle): SegmentInfo[];
  prefillChunk(
    session: PrefillSessionHandle,
    request: PrefillChunkRequest,
    onProgress: (share: number) => void,
  ): Promise<PrefillChunkResult>;
  seal(session: PrefillSessionHandle): Promise<Uint8Array>;
  cancel(session: PrefillSessionHandle): void;
  /** Settles when the memory is free. */
  close(session: PrefillSessionHandle): Promise<void>;
}

import type {
  DecodeItem,
  DecodeItemResult,
  DecodeSessionHandle,
} from '../../../native/ts/index.js';

/** What the decode loop asks of the native engine; main.ts binds it to the add-on. */
export interface DecodeEngine {
  /** One native call for the whole batch; results in order of items. */
  step(items: DecodeItem[]): Promise<DecodeItemResult[]>;
  /** Raises the session's cancellation flag: its part of a running step ends early. */
  cancel(session: DecodeSessionHandle): void;
  /**
   * Frees the session's memory, and settles when it is free. Never called while a step with the
   * session runs.
   */
  close(session: DecodeSessionHandle): Promise<void>;
}

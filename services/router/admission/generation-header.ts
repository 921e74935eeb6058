import type { CachePolicy, PrefillPolicy } from '../../domain/policy.js';
import type { WantedSparsePolicy } from '../../domain/sparse-policy.js';
import type { Priority } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';

/** What a client's header asks for, as it came: unchecked, null where unset. */
export interface GenerationHeader {
  readonly model: string;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number | null;
  /** Decimal digits. */
  readonly seed: string | null;
  /** 0: the server's default. */
  readonly maxNewTokens: number;
  readonly stopTexts: readonly string[];
  readonly ignoreEos: boolean;
  readonly prefillPolicy: PrefillPolicy | null;
  readonly cachePolicy: CachePolicy | null;
  /** Null: nothing of it is set. */
  readonly sparse: WantedSparsePolicy | null;
  /** From now; 0: none. */
  readonly deadlineMs: number;
  readonly tenant: string;
  readonly priority: Priority;
  /** 0: the server's default. */
  readonly maxPromptTokens: number;
  readonly onDisconnect: 'cancel' | 'keep';
  readonly resumeGraceMs: number | null;
  readonly keepSessionMs: number;
  readonly keepExactKeys: boolean;
  readonly promptLogprobs: readonly TokenRange[];
  readonly forcedTokenIds: readonly number[];
  readonly continueSessionId: string | null;
}

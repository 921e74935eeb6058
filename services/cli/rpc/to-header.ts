import type { GenerateHeader } from '../../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { CachePolicy, PrefillPolicy } from '../../domain/policy.js';
import type { Priority } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';

/** What a question asks for besides its prompt; absent means the server's default. */
export interface GenerateOptions {
  readonly model: string;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: string;
  readonly stop?: readonly string[];
  readonly ignoreEos?: boolean;
  readonly prefillPolicy?: PrefillPolicy;
  readonly cachePolicy?: CachePolicy;
  /** Of sparse prefill: most key tiles of a query block. */
  readonly tilesPerBlock?: number;
  /** Of sparse prefill: chunks that end at or before this position are dense. */
  readonly denseBelowTokens?: number;
  /** Of FlexPrefill: share of the attention mass to cover. */
  readonly gamma?: number;
  readonly maxPromptTokens?: number;
  readonly deadlineMs?: number;
  readonly tenant?: string;
  readonly priority?: Priority;
  readonly onDisconnect?: 'cancel' | 'keep';
  readonly resumeGraceMs?: number;
  readonly keepSessionMs?: number;
  readonly continueSessionId?: string;
  readonly promptLogprobs?: readonly TokenRange[];
  /** Generated token i is forcedTokens[i] while there is one. */
  readonly forcedTokens?: readonly number[];
}

/** The header of a Generate call. */
export function toHeader(options: GenerateOptions): GenerateHeader {
  const { temperature, topK, topP, seed, resumeGraceMs } = options;
  const { prefillPolicy, cachePolicy, priority, onDisconnect } = options;
  return {
    model: options.model,
    sampling: {
      ...(temperature === undefined ? {} : { temperature }),
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(seed === undefined ? {} : { seed }),
    },
    maxNewTokens: options.maxNewTokens ?? 0,
    stop: [...(options.stop ?? [])],
    ignoreEos: options.ignoreEos ?? false,
    ...(prefillPolicy === undefined ? {} : { prefillPolicy: PREFILL_POLICIES[prefillPolicy] }),
    ...(cachePolicy === undefined ? {} : { cachePolicy: CACHE_POLICIES[cachePolicy] }),
    ...sparseField(options),
    maxPromptTokens: options.maxPromptTokens ?? 0,
    deadlineMs: options.deadlineMs ?? 0,
    tenant: options.tenant ?? '',
    ...(priority === undefined ? {} : { priority: PRIORITIES[priority] }),
    ...(onDisconnect === undefined ? {} : { onDisconnect: ON_DISCONNECT[onDisconnect] }),
    ...(resumeGraceMs === undefined ? {} : { resumeGraceMs }),
    keepSessionMs: options.keepSessionMs ?? 0,
    continueSessionId: options.continueSessionId ?? '',
    promptLogprobs: [...(options.promptLogprobs ?? [])],
    forcedTokens: [...(options.forcedTokens ?? [])],
  };
}

/** Unset where none of it is given: with dense prefill it would be refused. */
function sparseField({
  tilesPerBlock,
  denseBelowTokens,
  gamma,
}: GenerateOptions): Pick<GenerateHeader, 'sparsePrefill'> {
  const given = {
    ...(tilesPerBlock === undefined ? {} : { tilesPerBlock }),
    ...(denseBelowTokens === undefined ? {} : { denseBelowTokens }),
    ...(gamma === undefined ? {} : { gamma }),
  };
  return Object.keys(given).length === 0 ? {} : { sparsePrefill: given };
}

const PREFILL_POLICIES = {
  dense: 'PREFILL_POLICY_DENSE',
  minference: 'PREFILL_POLICY_MINFERENCE',
  flexprefill: 'PREFILL_POLICY_FLEXPREFILL',
  'a-shape': 'PREFILL_POLICY_A_SHAPE',
} as const satisfies Record<PrefillPolicy, string>;

const CACHE_POLICIES = {
  full: 'CACHE_POLICY_FULL',
  shadowkv: 'CACHE_POLICY_SHADOWKV',
  locret: 'CACHE_POLICY_LOCRET',
} as const satisfies Record<CachePolicy, string>;

const PRIORITIES = {
  low: 'PRIORITY_LOW',
  normal: 'PRIORITY_NORMAL',
  high: 'PRIORITY_HIGH',
} as const satisfies Record<Priority, string>;

const ON_DISCONNECT = {
  cancel: 'ON_DISCONNECT_CANCEL',
  keep: 'ON_DISCONNECT_KEEP',
} as const;

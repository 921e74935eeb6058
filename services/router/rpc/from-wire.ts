import type { GenerateHeader__Output } from '../../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { PromptPart__Output } from '../../../proto/gen/longshadow/router/v1/PromptPart.js';
import type { SparsePrefill__Output } from '../../../proto/gen/longshadow/router/v1/SparsePrefill.js';
import type { CachePolicy, PrefillPolicy } from '../../domain/policy.js';
import type { Priority } from '../../domain/session-record.js';
import type { WantedSparsePolicy } from '../../domain/sparse-policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import type { PromptPart } from '../../platform/tokenizer/prompt-encoder.js';

const PREFILL_POLICIES: Readonly<Record<string, PrefillPolicy | null>> = {
  PREFILL_POLICY_UNSPECIFIED: null,
  PREFILL_POLICY_DENSE: 'dense',
  PREFILL_POLICY_MINFERENCE: 'minference',
  PREFILL_POLICY_FLEXPREFILL: 'flexprefill',
  PREFILL_POLICY_A_SHAPE: 'a-shape',
};

const CACHE_POLICIES: Readonly<Record<string, CachePolicy | null>> = {
  CACHE_POLICY_UNSPECIFIED: null,
  CACHE_POLICY_FULL: 'full',
  CACHE_POLICY_SHADOWKV: 'shadowkv',
  CACHE_POLICY_LOCRET: 'locret',
};

const PRIORITIES: Readonly<Record<string, Priority>> = {
  PRIORITY_UNSPECIFIED: 'normal',
  PRIORITY_LOW: 'low',
  PRIORITY_NORMAL: 'normal',
  PRIORITY_HIGH: 'high',
};

const ON_DISCONNECT: Readonly<Record<string, 'cancel' | 'keep'>> = {
  ON_DISCONNECT_UNSPECIFIED: 'cancel',
  ON_DISCONNECT_CANCEL: 'cancel',
  ON_DISCONNECT_KEEP: 'keep',
};

/** Converts a header; values are checked by admission. @throws ServingError BAD_REQUEST */
export function fromWireHeader(wire: GenerateHeader__Output): GenerationHeader {
  const { sampling, resumeGraceMs, continueSessionId } = wire;
  return {
    model: wire.model,
    temperature: sampling?.temperature ?? 0,
    topK: sampling?.topK ?? 0,
    topP: sampling?.topP ?? null,
    seed: sampling?.seed ?? null,
    maxNewTokens: wire.maxNewTokens,
    stopTexts: wire.stop,
    ignoreEos: wire.ignoreEos,
    prefillPolicy: choice('prefill_policy', wire.prefillPolicy, PREFILL_POLICIES),
    cachePolicy: choice('cache_policy', wire.cachePolicy, CACHE_POLICIES),
    sparse: fromWireSparse(wire.sparsePrefill),
    deadlineMs: Number(wire.deadlineMs),
    tenant: wire.tenant,
    priority: choice('priority', wire.priority, PRIORITIES),
    maxPromptTokens: Number(wire.maxPromptTokens),
    onDisconnect: choice('on_disconnect', wire.onDisconnect, ON_DISCONNECT),
    resumeGraceMs: resumeGraceMs === undefined ? null : Number(resumeGraceMs),
    keepSessionMs: Number(wire.keepSessionMs),
    keepExactKeys: wire.keepExactKeys,
    promptLogprobs: wire.promptLogprobs.map(({ beginToken, endToken }) => ({
      beginToken: Number(beginToken),
      endToken: Number(endToken),
    })),
    forcedTokenIds: wire.forcedTokens,
    continueSessionId: continueSessionId === '' ? null : continueSessionId,
  };
}

function fromWireSparse(wire: SparsePrefill__Output | null): WantedSparsePolicy | null {
  if (wire === null) return null;
  const { tilesPerBlock = null, denseBelowTokens = null, gamma = null } = wire;
  return { tilesPerBlock, denseBelowTokens, gamma };
}

/** @throws ServingError BAD_REQUEST for a part that holds nothing */
export function fromWirePart(wire: PromptPart__Output): PromptPart {
  if (wire.text !== undefined) return { kind: 'text', bytes: wire.text };
  if (wire.message !== undefined && wire.message !== null) {
    return { kind: 'message', role: wire.message.role, content: wire.message.content };
  }
  if (wire.tokenIds !== undefined && wire.tokenIds !== null) {
    return { kind: 'tokenIds', ids: wire.tokenIds.ids };
  }
  throw new ServingError('BAD_REQUEST', 'a prompt part must hold text, a message or token_ids', {
    fieldViolations: [{ field: 'part', description: 'text, message or token_ids' }],
  });
}

/** A number that no name stands for comes from a newer client. */
function choice<T>(field: string, value: string, choices: Readonly<Record<string, T>>): T {
  if (Object.hasOwn(choices, value)) return choices[value] as T;
  const known = Object.keys(choices).join(', ');
  throw new ServingError('BAD_REQUEST', `${field} must be one of ${known}, got ${value}`, {
    fieldViolations: [{ field, description: `one of ${known}` }],
  });
}

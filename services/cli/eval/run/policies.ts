import {
  CACHE_POLICY_NAMES,
  type CachePolicy,
  PREFILL_POLICY_NAMES,
  type PrefillPolicy,
} from '../../../domain/policy.js';
import { ServingError } from '../../../domain/serving-error.js';
import type { GenerateOptions } from '../../rpc/to-header.js';

/** What a run's samples are served by; its name is a column of the tables. */
export interface EvalPolicy {
  readonly name: string;
  readonly prefillPolicy: PrefillPolicy;
  readonly cachePolicy: CachePolicy;
  /** Most key tiles of a query block; null: the cluster's default. */
  readonly tilesPerBlock: number | null;
}

/** `minference@32`: with 32 key tiles a query block. */
const WITH_TILES = /^(minference|flexprefill|a-shape)@([1-9]\d{0,4})$/;

/**
 * What a side is compared with: a window of the same cost. A-shape (first and nearest keys of each
 * block) with as many tiles for prefill; sinks and recent tokens for the cache, at equal attended tokens
 * a step (shadowkv) or equal bytes (locret), which is not served yet.
 */
const CONTROL_OF: Readonly<Record<string, string>> = {
  minference: 'a-shape',
  flexprefill: 'a-shape',
  shadowkv: 'window',
  locret: 'window',
};
const CONTROLS: ReadonlySet<string> = new Set(Object.values(CONTROL_OF));
const DENSE = 'dense';

/**
 * The control of each sparse policy of a run, side by side: `a-shape+window` for
 * `minference+shadowkv`.
 */
export function controlsOf(policies: readonly string[]): Record<string, string> {
  const pairs = policies.flatMap((policy) => {
    const control = policy
      .split('+')
      .map((word) => controlOf(word))
      .join('+');
    return control === policy ? [] : [[policy, control] as const];
  });
  return Object.fromEntries(pairs);
}

/**
 * A run's policies with the control of each that is compared with dense, right behind it, where the
 * cluster can serve one and it is not asked for by itself.
 */
export function withControls(policies: readonly string[]): string[] {
  if (!policies.includes(DENSE)) return [...policies];
  const controls = new Map(Object.entries(controlsOf(policies)));
  const all = policies.flatMap((policy) => {
    const control = controls.get(policy);
    const isAdded = control !== undefined && isServed(control) && !policies.includes(control);
    return isAdded ? [policy, control] : [policy];
  });
  return [...new Set(all)];
}

function isServed(policy: string): boolean {
  return policy.split('+').every((word) => toSide(word) !== null);
}

/** A window of as many tiles: `a-shape@32` for `minference@32`. */
function controlOf(word: string): string {
  const [base = word, ...tiles] = word.split('@');
  const control = Object.hasOwn(CONTROL_OF, base) ? CONTROL_OF[base] : undefined;
  return control === undefined ? word : [control, ...tiles].join('@');
}

/** Whether a policy is a control on each side that it changes. */
export function isControl(policy: string): boolean {
  const changed = policy.split('+').filter((word) => word !== 'dense' && word !== 'full');
  const isOne = (word: string): boolean => CONTROLS.has(word.split('@', 1)[0] ?? word);
  return changed.length > 0 && changed.every(isOne);
}

/**
 * `dense`, or one name for prefill and one for the cache: `minference+shadowkv`, `dense+full`. What is
 * not named is dense, or full.
 * @throws ServingError POLICY_NOT_AVAILABLE naming what there is
 */
export function toPolicy(name: string): EvalPolicy {
  const sides = name.split('+').map((word) => toSide(word) ?? refuseSide(word));
  for (const side of ['prefillPolicy', 'cachePolicy'] as const) {
    if (sides.filter((named) => side in named).length > 1) {
      throw refused(`"${name}" says twice how one side is served`);
    }
  }
  const plain = { prefillPolicy: 'dense', cachePolicy: 'full', tilesPerBlock: null } as const;
  return Object.assign({ name, ...plain }, ...sides) as EvalPolicy;
}

/** What a turn asks for to be served by a policy. */
export function policyOptions({
  prefillPolicy,
  cachePolicy,
  tilesPerBlock,
}: EvalPolicy): Pick<GenerateOptions, 'prefillPolicy' | 'cachePolicy' | 'tilesPerBlock'> {
  return { prefillPolicy, cachePolicy, ...(tilesPerBlock === null ? {} : { tilesPerBlock }) };
}

/** Null: no such policy. */
function toSide(word: string): Partial<EvalPolicy> | null {
  const cachePolicy = CACHE_POLICY_NAMES.find((cache) => cache === word);
  if (cachePolicy !== undefined) return { cachePolicy };
  const [, base = word, tiles] = WITH_TILES.exec(word) ?? [];
  const prefillPolicy = PREFILL_POLICY_NAMES.find((prefill) => prefill === base);
  if (prefillPolicy === undefined) return null;
  return { prefillPolicy, ...(tiles === undefined ? {} : { tilesPerBlock: Number(tiles) }) };
}

function refuseSide(word: string): never {
  throw refused(
    CONTROLS.has(word) ? `the control "${word}" is not served yet` : `there is no policy "${word}"`,
  );
}

function refused(what: string): ServingError {
  return new ServingError(
    'POLICY_NOT_AVAILABLE',
    `${what}; give ${[...PREFILL_POLICY_NAMES, ...CACHE_POLICY_NAMES].join(', ')}, or one for prefill and one for the cache as minference+shadowkv; minference@32 has 32 key tiles a query block`,
  );
}

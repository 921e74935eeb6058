import type { CachePolicy, PrefillPolicy } from '../../../domain/policy.js';
import { ServingError } from '../../../domain/serving-error.js';

/** What a run's samples are served by; its name is a column of the tables. */
export interface EvalPolicy {
  readonly name: string;
  readonly prefillPolicy: PrefillPolicy;
  readonly cachePolicy: CachePolicy;
}

/** Each name changes one side of `dense`. */
const SIDES: Readonly<Record<string, Partial<Omit<EvalPolicy, 'name'>>>> = {
  dense: {},
  minference: { prefillPolicy: 'minference' },
  flexprefill: { prefillPolicy: 'flexprefill' },
  shadowkv: { cachePolicy: 'shadowkv' },
  locret: { cachePolicy: 'locret' },
};

/**
 * What a side is compared with: a window of the same cost. A-shape (first and last blocks of each row)
 * at equal tile density for prefill; sinks and recent tokens for the cache, at equal attended tokens a
 * step (shadowkv) or equal bytes (locret). They are served from the first sparse policy on.
 */
const CONTROL_OF: Readonly<Record<string, string>> = {
  minference: 'a-shape',
  flexprefill: 'a-shape',
  shadowkv: 'window',
  locret: 'window',
};
const CONTROLS: ReadonlySet<string> = new Set(Object.values(CONTROL_OF));

/**
 * The control of each sparse policy of a run, side by side: `a-shape+window` for
 * `minference+shadowkv`.
 */
export function controlsOf(policies: readonly string[]): Record<string, string> {
  const pairs = policies.flatMap((policy) => {
    const control = policy
      .split('+')
      .map((word) => (Object.hasOwn(CONTROL_OF, word) ? CONTROL_OF[word] : word))
      .join('+');
    return control === policy ? [] : [[policy, control] as const];
  });
  return Object.fromEntries(pairs);
}

/** Whether a policy is a control on each side that it changes. */
export function isControl(policy: string): boolean {
  return policy.split('+').every((word) => CONTROLS.has(word));
}

/**
 * `dense`, or names joined by `+` that change different sides: `minference+shadowkv`.
 * @throws ServingError POLICY_NOT_AVAILABLE naming what there is
 */
export function toPolicy(name: string): EvalPolicy {
  const policy = { name, prefillPolicy: 'dense', cachePolicy: 'full' } as const;
  const sides = name.split('+').map((word) => {
    const side = Object.hasOwn(SIDES, word) ? SIDES[word] : undefined;
    if (side !== undefined) return side;
    if (CONTROLS.has(word))
      throw refused(`the control "${word}" comes with the first sparse policy`);
    throw refused(`there is no policy "${word}"`);
  });
  const changed = sides.flatMap((side) => Object.keys(side));
  if (new Set(changed).size < Math.max(changed.length, sides.length > 1 ? sides.length : 0)) {
    throw refused(`"${name}" says twice how one side is served`);
  }
  return Object.assign({ ...policy }, ...sides) as EvalPolicy;
}

function refused(what: string): ServingError {
  return new ServingError(
    'POLICY_NOT_AVAILABLE',
    `${what}; give ${Object.keys(SIDES).join(', ')}, or one for prefill and one for the cache as minference+shadowkv`,
  );
}

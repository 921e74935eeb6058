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
 * `dense`, or names joined by `+` that change different sides: `minference+shadowkv`.
 * @throws ServingError POLICY_NOT_AVAILABLE naming what there is
 */
export function toPolicy(name: string): EvalPolicy {
  const policy = { name, prefillPolicy: 'dense', cachePolicy: 'full' } as const;
  const sides = name.split('+').map((word) => {
    const side = Object.hasOwn(SIDES, word) ? SIDES[word] : undefined;
    if (side !== undefined) return side;
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

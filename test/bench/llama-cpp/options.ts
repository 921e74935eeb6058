import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { PREFILL_POLICY_NAMES, type PrefillPolicy } from '../../../services/domain/policy.js';

export interface BenchOptions {
  /** Lengths of prompts. */
  readonly tokens: readonly number[];
  readonly policies: readonly PrefillPolicy[];
  /** At every length; null for more at short ones. */
  readonly rounds: number | null;
  /** Of either engine. */
  readonly threads: number;
  /** Look for llama.cpp's fastest setup first, else take its defaults. */
  readonly tune: boolean;
  /** Null: the model's own, if it has one. */
  readonly patterns: string | null;
}

export const HELP = `Prefill by this project's engine and by llama.cpp: the same weights, ids and threads.

  --tokens LIST     lengths of prompts; default 8192,32768
  --policies LIST   of ${PREFILL_POLICY_NAMES.join(', ')}; default dense
  --patterns FILE   pattern file of minference; default: minference.json in the model's folder
  --rounds N        at every length; default 5, above 8,192 tokens 3
  --threads N       of either engine; default: one a core
  --no-tune         llama.cpp as its defaults have it, not in its fastest setup
  --help

docs/benchmarks.md says what the JSON lines mean.
`;

/** @throws Error that says what an option takes */
export function parseOptions(args: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tokens: { type: 'string', default: '8192,32768' },
      policies: { type: 'string', default: 'dense' },
      rounds: { type: 'string' },
      threads: { type: 'string', default: String(availableParallelism()) },
      help: { type: 'boolean', default: false },
      patterns: { type: 'string' },
      'no-tune': { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  return {
    tokens: values.tokens.split(',').map((value) => count('--tokens', value)),
    policies: values.policies.split(',').map(toPolicy),
    rounds: values.rounds === undefined ? null : count('--rounds', values.rounds),
    threads: count('--threads', values.threads),
    tune: !values['no-tune'],
    patterns: values.patterns ?? null,
  };
}

function count(option: string, value: string): number {
  const number = Number(value);
  if (Number.isSafeInteger(number) && number > 0) return number;
  throw new Error(`${option} takes whole numbers above 0, not ${value}`);
}

function toPolicy(value: string): PrefillPolicy {
  const policy = PREFILL_POLICY_NAMES.find((name) => name === value);
  if (policy !== undefined) return policy;
  throw new Error(`--policies takes ${PREFILL_POLICY_NAMES.join(', ')}, not ${value}`);
}

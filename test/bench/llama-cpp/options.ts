import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { POLICIES, type Policy } from './policies.js';

export interface BenchOptions {
  /** Lengths of prompts. */
  readonly tokens: readonly number[];
  readonly policies: readonly Policy[];
  /** At every length; null for more at short ones. */
  readonly rounds: number | null;
  /** Of either engine. */
  readonly threads: number;
  /** Look for llama.cpp's fastest setup first, else take its defaults. */
  readonly tune: boolean;
}

/** @throws Error that says what an option takes */
export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      tokens: { type: 'string', default: '8192,32768' },
      policies: { type: 'string', default: 'dense' },
      rounds: { type: 'string' },
      threads: { type: 'string', default: String(availableParallelism()) },
      'no-tune': { type: 'boolean', default: false },
    },
  });
  return {
    tokens: values.tokens.split(',').map((value) => count('--tokens', value)),
    policies: values.policies.split(',').map(toPolicy),
    rounds: values.rounds === undefined ? null : count('--rounds', values.rounds),
    threads: count('--threads', values.threads),
    tune: !values['no-tune'],
  };
}

function count(option: string, value: string): number {
  const number = Number(value);
  if (Number.isSafeInteger(number) && number > 0) return number;
  throw new Error(`${option} takes whole numbers above 0, not ${value}`);
}

function toPolicy(value: string): Policy {
  const policy = POLICIES.find((name) => name === value);
  if (policy !== undefined) return policy;
  throw new Error(`--policies takes ${POLICIES.join(', ')}, not ${value}`);
}

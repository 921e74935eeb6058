import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { NEEDLE_MODEL } from './cluster.js';

/** A prompt of the embedded model with its known answer. */
export interface NeedleSample {
  readonly kind: string;
  /** Prompt, answer and <|end|>. */
  readonly ids: readonly number[];
  readonly prompt: readonly number[];
  readonly answer: readonly number[];
}

/** The three samples: 2,048, 8,192 and 16,384 ids. */
export function needleSamples(): NeedleSample[] {
  const samples = JSON.parse(readFileSync(join(NEEDLE_MODEL, 'samples.json'), 'utf8')) as {
    kind: string;
    ids: number[];
    answer_positions: number[];
  }[];
  return samples.map(({ kind, ids, answer_positions: positions }) => ({
    kind,
    ids,
    prompt: ids.slice(0, positions[0]),
    answer: positions.map((position) => ids[position] ?? -1),
  }));
}

export function needleSample(index: number): NeedleSample {
  const sample = needleSamples()[index];
  if (sample === undefined) throw new Error(`no sample ${index}`);
  return sample;
}

import type { Candidate } from './candidates.js';
import type { HeadChoice } from './choose-patterns.js';

const TYPES: Readonly<Record<Candidate['pattern'], string>> = {
  'a-shape': 'stream_llm',
  'vertical-slash': 'vertical_and_slash',
  'block-sparse': 'block_sparse',
  'key-bounds': 'key_bounds',
};

/**
 * Choices as a pattern file: MInference's format, with our key_bounds and our "tiles" in each layer.
 * The score is the mean relative error.
 */
export function patternsText(
  choices: readonly HeadChoice[],
  candidates: readonly Candidate[],
  tiles: number,
): string {
  const layers: Record<string, unknown>[] = [];
  for (const { layer, head, candidate, error } of choices) {
    const found = candidates[candidate];
    if (found === undefined) throw new RangeError(`no candidate ${String(candidate)}`);
    const score = Number(error.toPrecision(6));
    const entry = (layers[layer] ??= { tiles: {} });
    entry[String(head)] = [TYPES[found.pattern], found.columns, found.distances, score];
    (entry['tiles'] as Record<string, number>)[String(head)] = tiles;
  }
  const lines = layers.map((entry) => JSON.stringify(entry));
  return `[\n${lines.join(',\n')}\n]\n`;
}

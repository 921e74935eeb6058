import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { choosePatterns } from '../../../../services/cli/patterns/choose-patterns.js';
import { patternsText } from '../../../../services/cli/patterns/patterns-text.js';
import {
  checkPatternShape,
  parsePatterns,
} from '../../../../services/platform/patterns/parse-patterns.js';
import {
  BLOCKS,
  CANDIDATES,
  LINES,
  SHAPE,
  STANDARD,
  sumsWith,
  TILES,
  WINDOW,
} from './trial-fixture.js';

const choices = choosePatterns(
  sumsWith([{ [LINES]: 0.5 }, { [BLOCKS]: 1 / 3 }, { [WINDOW]: 0.1 }, { [STANDARD]: 0.2 }]),
  SHAPE,
);
const text = patternsText(choices, CANDIDATES, TILES);

test("the file has MInference's format, with our tiles in each layer", () => {
  assert.deepEqual(JSON.parse(text), [
    {
      '0': ['vertical_and_slash', 4_096, 100, 0.5],
      '1': ['block_sparse', 0, 0, 0.333333],
      tiles: { '0': TILES, '1': TILES },
    },
    {
      '0': ['stream_llm', 128, 3_904, 0.1],
      '1': ['key_bounds', 0, 0, 0.2],
      tiles: { '0': TILES, '1': TILES },
    },
  ]);
  assert.equal(text.trimEnd().split('\n').length, 4, 'a line a layer');
});

test('the file loads as what was chosen', () => {
  const patterns = parsePatterns(text, 'file');
  checkPatternShape(patterns, SHAPE, 'file');
  for (const { layer, head, candidate } of choices) {
    const { pattern, columns, distances } = CANDIDATES[candidate] ?? {};
    const read = patterns[layer]?.get(head);
    assert.deepEqual(read, { pattern, columns, distances, tiles: TILES });
  }
});

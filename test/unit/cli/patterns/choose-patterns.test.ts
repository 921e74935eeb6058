import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { choosePatterns } from '../../../../services/cli/patterns/choose-patterns.js';
import { BLOCKS, LINES, OTHER_LINES, SHAPE, STANDARD, sumsWith, WINDOW } from './trial-fixture.js';

test('each head gets the candidate with the smallest mean error of a row', () => {
  const choices = choosePatterns(
    sumsWith([{ [LINES]: 0.5 }, { [BLOCKS]: 0.25 }, { [WINDOW]: 0.1 }, { [STANDARD]: 0.2 }], 40),
    SHAPE,
  );
  assert.deepEqual(
    choices.map(({ layer, head, candidate, error }) => [layer, head, candidate, error]),
    [
      [0, 0, LINES, 0.5],
      [0, 1, BLOCKS, 0.25],
      [1, 0, WINDOW, 0.1],
      [1, 1, STANDARD, 0.2],
    ],
  );
});

test('of equal errors the earlier candidate is chosen', () => {
  const [all, two] = choosePatterns(sumsWith([{}, { [BLOCKS]: 0.5, [STANDARD]: 0.5 }]), SHAPE);
  assert.equal(all?.candidate, 0);
  assert.equal(two?.candidate, BLOCKS);
});

test('a choice between patterns that differ by less than 2 % is told', () => {
  const choices = choosePatterns(
    sumsWith([
      { [LINES]: 0.5, [BLOCKS]: 0.509 },
      { [LINES]: 0.5, [BLOCKS]: 0.511 },
      { [LINES]: 0.509, [BLOCKS]: 0.5 },
      // A window that beats both is no chance.
      { [LINES]: 0.5, [BLOCKS]: 0.5, [WINDOW]: 0.4 },
    ]),
    SHAPE,
  );
  assert.deepEqual(
    choices.map(({ isClose }) => isClose),
    [true, false, true, false],
  );
});

test('the best two of three patterns are compared, and never two of one pattern', () => {
  const choices = choosePatterns(
    sumsWith([
      { [LINES]: 0.5, [STANDARD]: 0.505 },
      { [BLOCKS]: 0.505, [STANDARD]: 0.5, [LINES]: 0.9 },
      // Two that are alike, and both far behind the third.
      { [LINES]: 0.5, [BLOCKS]: 0.5, [STANDARD]: 0.4 },
      { [LINES]: 0.5, [OTHER_LINES]: 0.5 },
    ]),
    SHAPE,
  );
  assert.deepEqual(
    choices.map(({ isClose }) => isClose),
    [true, true, false, false],
  );
});

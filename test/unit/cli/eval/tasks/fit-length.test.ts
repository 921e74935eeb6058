import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { fitUnits, type UnitText } from '../../../../../services/cli/eval/tasks/fit-length.js';
import { countTokens } from '../../../../support/eval-tasks.js';

const HEAD = 'Read this first.\n';

function wordText(words: readonly string[], repeats: boolean): UnitText {
  const slice = (from: number, to: number): string => {
    const taken: string[] = [];
    for (let at = from; at < to; at += 1) taken.push(words[at % words.length] ?? '');
    return taken.join(' ');
  };
  return {
    leastUnits: 1,
    mostUnits: repeats ? Infinity : words.length,
    build: (units) => `${HEAD}${slice(0, units)}`,
    added: (from, to) => ` ${slice(from, to)}`,
  };
}

const words = fc.array(
  fc.constantFrom('a', 'whale', 'harpooneers', '12', '1234567', 'x—y', '...', 'Queequeg’s'),
  { minLength: 4, maxLength: 60 },
);

test('a fitted text is never too long, and one more unit would be', async () => {
  await fc.assert(
    fc.asyncProperty(words, fc.integer({ min: 40, max: 3_000 }), async (list, budget) => {
      const text = wordText(list, true);
      const fitted = await fitUnits(text, budget, countTokens);
      assert.equal(fitted.text, text.build(fitted.units));
      assert.equal(fitted.tokens, await countTokens(fitted.text));
      assert.ok(fitted.tokens <= budget, `${fitted.tokens} of ${budget}`);
      const more = await countTokens(text.build(fitted.units + 1));
      assert.ok(more > budget, `${more} of ${budget} would fit, too`);
    }),
    { numRuns: 60 },
  );
});

test('a text that does not repeat is taken whole where there is room', async () => {
  const list = ['one', 'two', 'three', 'four'];
  const fitted = await fitUnits(wordText(list, false), 1_000, countTokens);
  assert.equal(fitted.units, list.length);
});

test('a budget too small for the least text gives that text, for the caller to refuse', async () => {
  const fitted = await fitUnits(wordText(['whale'], true), 1, countTokens);
  assert.equal(fitted.units, 1);
  assert.ok(fitted.tokens > 1);
});

test('a million tokens are fitted with four counts of a whole text at most', async () => {
  const budget = 1_000_000;
  let wholeCounts = 0;
  // Words get longer along the text, so that no single sample foresees the rest.
  const lengthOf = (at: number): number => 2 + ((at * 7) % 5) + Math.floor(at / 150_000);
  const text: UnitText = {
    leastUnits: 1,
    mostUnits: Infinity,
    build: (units) => `${String(units)} units`,
    added: (from, to) => `${String(from)} to ${String(to)}`,
  };
  const tokensTo = [0];
  for (let at = 0; at < 400_000; at += 1) tokensTo.push((tokensTo[at] ?? 0) + lengthOf(at));
  const counter = (described: string): Promise<number> => {
    const [first = 0, second] = (described.match(/\d+/g) ?? []).map(Number);
    if (second !== undefined)
      return Promise.resolve((tokensTo[second] ?? 0) - (tokensTo[first] ?? 0));
    if (first > 1_000) wholeCounts += 1;
    return Promise.resolve(tokensTo[first] ?? Infinity);
  };
  const fitted = await fitUnits(text, budget, counter);
  assert.ok(fitted.tokens <= budget);
  assert.ok((tokensTo[fitted.units + 1] ?? 0) > budget);
  assert.ok(wholeCounts <= 4, `${wholeCounts} counts`);
});

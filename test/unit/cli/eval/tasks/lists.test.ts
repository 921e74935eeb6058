import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { makeTask, occurrences } from '../../../../support/eval-tasks.js';

const VT_START = 'Memorize and track the chain(s)';
const CWE_START = 'Below is a numbered list of words.';
const ASSIGNMENT = /^VAR ([A-Z]+) = (?:VAR ([A-Z]+) |(\d{5}))$/;

/** Follows assignments line by line; each variable must be set before it is used. */
function assigned(text: string): Map<string, string[]> {
  const valueOf = new Map<string, string>();
  const names = new Map<string, string[]>();
  for (const line of text.split('\n').filter((each) => each.startsWith('VAR'))) {
    const [, name = '', from = '', number] = ASSIGNMENT.exec(line) ?? [];
    const value = number ?? valueOf.get(from);
    assert.ok(value !== undefined && !valueOf.has(name), line);
    valueOf.set(name, value);
    names.set(value, [...(names.get(value) ?? []), name]);
  }
  return names;
}

test('every chain holds its value through four hops, in order, and is asked for once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 6 }), async (seed, chains) => {
      const request = { seed, questionsPerDocument: chains, lengthTokens: 3_000 };
      const { promptText, questions } = await makeTask('vt', request);
      const real = promptText.slice(promptText.lastIndexOf(VT_START));
      const names = assigned(real);
      assert.equal(names.size, chains);
      assert.equal(questions.length, chains);
      for (const { questionText, answerPrefix, references } of questions) {
        const value = /value (\d+) in/.exec(questionText)?.[1] ?? '';
        assert.deepEqual(names.get(value), references);
        assert.equal(references.length, 5);
        assert.ok(answerPrefix.includes(`5 variables are assigned the value ${value}`));
        for (const name of references) assert.match(name, /^[A-Z]{5}$/);
        assert.equal(occurrences(promptText, value), 1);
      }
    }),
    { numRuns: 25 },
  );
});

test('variable tracking begins with a solved example of its own', async () => {
  const one = await makeTask('vt', { index: 1 });
  const other = await makeTask('vt', { index: 2 });
  const exampleOf = (text: string): string => text.slice(0, text.lastIndexOf(VT_START));
  const example = exampleOf(one.promptText);
  assert.ok(example.startsWith(VT_START));
  const [[value, names] = ['', []]] = [...assigned(example)];
  assert.ok(example.endsWith(`value ${value}, they are:  ${names.join(' ')}\n\n`), example);
  for (const name of names) assert.match(name, /^[A-Z]{3}$/);
  assert.notEqual(example, exampleOf(other.promptText));
});

/** Words of a numbered list, once their numbers are found to run from 1. */
function listed(text: string): string[] {
  const entries = text.split(/ (?=\d+\. )/);
  return entries.map((entry, at) => {
    assert.ok(entry.startsWith(`${String(at + 1)}. `), entry);
    return entry.slice(entry.indexOf(' ') + 1);
  });
}

function countsOf(words: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

for (const [lengthTokens, common, other, exampleWords] of [
  [3_000, 6, 1, 20],
  [8_000, 30, 3, 40],
] as const) {
  test(`of ${lengthTokens} tokens ten common words stand ${common} times, others ${other}`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const { promptText, questions } = await makeTask('cwe', { seed, lengthTokens });
        const real = promptText.slice(promptText.lastIndexOf(CWE_START));
        const counts = countsOf(listed(real.split('\n')[1] ?? ''));
        const references = questions[0]?.references ?? [];
        assert.equal(new Set(references).size, 10);
        for (const [word, count] of counts) {
          assert.equal(count, references.includes(word) ? common : other, word);
        }
        assert.ok(references.every((word) => counts.has(word)));
        const example = promptText.slice(0, promptText.lastIndexOf(CWE_START)).split('\n');
        assert.equal(countsOf(listed(example[1] ?? '')).size, exampleWords);
        assert.match(example[2] ?? '', /in the list are: 1\. \S+ 2\. .+ 10\. \S+$/);
      }),
      { numRuns: 10 },
    );
  });
}

test('lists longer than the common words go on with rarer ones', async () => {
  const perWord = (text: string): Promise<number> => Promise.resolve(text.split(/\s+/).length);
  const request = { lengthTokens: 100_000, counter: perWord };
  const { promptText, questions } = await makeTask('cwe', request);
  const real = promptText.slice(promptText.lastIndexOf(CWE_START));
  const counts = countsOf(listed(real.split('\n')[1] ?? ''));
  assert.ok(counts.size > 10_000, String(counts.size));
  for (const word of questions[0]?.references ?? []) assert.equal(counts.get(word), 30);
});

test('coded words follow the zeta law; ranks two to four are the answer', async () => {
  const lengthTokens = 5_000;
  await fc.assert(
    fc.asyncProperty(fc.nat(), async (seed) => {
      const { promptText, questions } = await makeTask('fwe', { seed, lengthTokens });
      const references = questions[0]?.references ?? [];
      const coded = promptText.trim().split('coded words. ')[1] ?? '';
      const counts = countsOf(coded.split(' '));
      const found = [...counts.values()].sort((one, another) => another - one);
      const total = (6 / Math.PI ** 2) ** -1;
      const expectedOf = (words: number): number[] =>
        Array.from({ length: 99 }, (_, at) => Math.floor(words / (at + 1) ** 2 / total)).filter(
          (count) => count > 0,
        );
      // The number of words is not in the text: one near that of the noise must explain all counts.
      const near = Math.ceil((found[0] ?? 0) * total);
      const fits = [0, 1].some(
        (step) => JSON.stringify(expectedOf(near + step)) === JSON.stringify(found),
      );
      assert.ok(fits, `${JSON.stringify(found)} from about ${near}`);
      const byCount = [...counts].sort(([, one], [, another]) => another - one);
      assert.deepEqual(
        references,
        byCount.slice(1, 4).map(([word]) => word),
      );
      assert.equal(byCount.map(([word]) => word)[0], '...');
      for (const word of references) assert.match(word, /^[a-z]{6}$/);
    }),
    { numRuns: 15 },
  );
});

import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EvalDocument } from '../../../../../services/cli/eval/eval-types.js';
import {
  NIAH_TASKS,
  type NiahParameters,
  NOISE_SENTENCE,
} from '../../../../../services/cli/eval/tasks/ruler/templates.js';
import { makeTask, occurrences } from '../../../../support/eval-tasks.js';

const SENTENCE = /One of the special magic (?:numbers|uuids) for (\S+) is: (\S+)\./g;

/** Keys, in the order of the text, with their values. */
function hidden({ promptText }: EvalDocument): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, key = '', value = ''] of promptText.matchAll(SENTENCE)) {
    found.set(key, [...(found.get(key) ?? []), value]);
  }
  return found;
}

/** The keys that a question names. */
function asked(questionText: string): string[] {
  const list = / for (.+) mentioned in the provided text\?$/.exec(questionText)?.[1] ?? '';
  return list.split(/, and |, /);
}

const cells = fc.record({
  name: fc.constantFrom(...Object.keys(NIAH_TASKS)),
  index: fc.nat(1_000),
  seed: fc.nat(),
  questionsPerDocument: fc.integer({ min: 1, max: 5 }),
});

test('a question asks for keys of its own; their values are the references and stand once', async () => {
  await fc.assert(
    fc.asyncProperty(cells, async ({ name, ...request }) => {
      const kind: NiahParameters = NIAH_TASKS[name as keyof typeof NIAH_TASKS];
      const document = await makeTask(name, { ...request, lengthTokens: 5_000 });
      const keys = hidden(document);
      assert.equal(document.questions.length, request.questionsPerDocument);
      const allAsked = document.questions.flatMap(({ questionText, references, answerPrefix }) => {
        const names = asked(questionText);
        assert.equal(names.length, kind.queries);
        assert.deepEqual(
          references,
          [...names].flatMap((key) => [...references].filter((v) => keys.get(key)?.includes(v))),
        );
        assert.equal(references.length, kind.queries * kind.valuesPerKey);
        for (const key of names) assert.ok(answerPrefix.includes(key), answerPrefix);
        for (const value of references) assert.equal(occurrences(document.promptText, value), 1);
        for (const key of names) {
          assert.equal(occurrences(document.promptText, key), kind.valuesPerKey);
        }
        return names;
      });
      assert.equal(new Set(allAsked).size, allAsked.length);
    }),
    { numRuns: 25 },
  );
});

test('as many keys are hidden as the task says, each with as many values', async () => {
  for (const [name, kind] of Object.entries(NIAH_TASKS)) {
    if (kind.haystack === 'needle') continue;
    const document = await makeTask(name, { lengthTokens: 3_000, questionsPerDocument: 2 });
    const keys = hidden(document);
    assert.equal(keys.size, 2 * kind.keys, name);
    for (const values of keys.values()) assert.equal(values.length, kind.valuesPerKey, name);
  }
});

test('keys and values of distractors differ from one another and from the needles', async () => {
  for (const name of ['niah_multikey_2', 'niah_multikey_3']) {
    const keys = hidden(await makeTask(name, { lengthTokens: 20_000 }));
    const values = [...keys.values()].flat();
    assert.ok(keys.size > 100, name);
    assert.equal(values.length, keys.size, name);
    assert.equal(new Set(values).size, values.length, name);
  }
});

test('values are seven digits or version-4 UUIDs; keys are two words', async () => {
  const one = hidden(await makeTask('niah_single_1'));
  for (const [key, [value = '']] of one) {
    assert.match(key, /^[a-z]+-[a-z]+$/);
    assert.match(value, /^[1-9]\d{6}$/);
  }
  const uuid = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;
  for (const [key, [value = '']] of hidden(await makeTask('niah_multikey_3'))) {
    assert.match(key, uuid);
    assert.match(value, uuid);
  }
});

test('a needle stands at the depth that its question states', async () => {
  for (const name of ['niah_single_1', 'niah_single_2', 'niah_multikey_2']) {
    const lengthTokens = 8_000;
    const { promptText, questions } = await makeTask(name, {
      lengthTokens,
      questionsPerDocument: 6,
    });
    for (const { references, facts } of questions) {
      const at = (100 * promptText.indexOf(references[0] ?? '')) / promptText.length;
      // In prose, depth counts sentences, which differ in length.
      const tolerance = name === 'niah_single_2' ? 12 : 2;
      assert.ok(Math.abs(at - Number(facts['depthPercent'])) < tolerance, `${name}: ${at}`);
    }
  }
});

test('without its needles a noise text is the noise sentence, a line each', async () => {
  const { promptText } = await makeTask('niah_single_1', { questionsPerDocument: 3 });
  const lines = promptText.split('\n').slice(1, -1);
  const noise = lines.filter((line) => !line.startsWith('One of'));
  assert.equal(lines.length - noise.length, 3);
  assert.deepEqual(new Set(noise), new Set([NOISE_SENTENCE]));
});

test('without its needles an essay text is the start of the book', async () => {
  const { promptText } = await makeTask('niah_single_2');
  const context = promptText.split('\n')[1] ?? '';
  const prose = context.replace(SENTENCE, '').replace(/ {2,}/g, ' ').trim();
  const opening = 'CHAPTER 1. Loomings. Call me Ishmael. Some years ago—never mind how long';
  assert.ok(prose.startsWith(opening), prose.slice(0, 80));
});

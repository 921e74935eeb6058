import assert from '../../../../support/assert.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkPerplexityRoom } from '../../../../../services/cli/eval/tasks/perplexity.js';
import { TaskSources } from '../../../../../services/cli/eval/tasks/task-sources.js';
import {
  countTokens,
  makeTask,
  occurrences,
  packagedSources,
} from '../../../../support/eval-tasks.js';

const BOOK = packagedSources.texts()[0]?.text ?? '';

test('the grid has a needle at every depth, each with a question of its own', async () => {
  const { promptText, questions } = await makeTask('needle', { lengthTokens: 8_192, depths: 11 });
  assert.deepEqual(
    questions.map(({ facts }) => facts['depthPercent']),
    [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
  );
  for (const { references, facts, questionText } of questions) {
    const [value = ''] = references;
    assert.equal(occurrences(promptText, value), 1);
    const key = / for (\S+) mentioned/.exec(questionText)?.[1] ?? '';
    assert.ok(promptText.includes(`One of the special magic numbers for ${key} is: ${value}.`));
    const at = (100 * promptText.indexOf(value)) / promptText.length;
    assert.ok(Math.abs(at - Number(facts['depthPercent'])) < 3, `${at}`);
  }
});

test('seeds and indexes begin the haystack in different places', async () => {
  const openings = await Promise.all(
    [0, 1, 2, 3].map(async (index) => {
      const { promptText } = await makeTask('needle', { index, lengthTokens: 1_024, depths: 2 });
      return promptText.split('. ')[6];
    }),
  );
  assert.equal(new Set(openings).size, 4);
});

test('a question inside the text is answered there, far from its needle', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 12 }), async (seed, pairs) => {
      const request = { seed, questionsPerDocument: pairs, lengthTokens: 6_000 };
      const { promptText, questions, logprobTargets, chat } = await makeTask('midprompt', request);
      assert.deepEqual(questions, []);
      assert.equal(chat, true);
      assert.equal(logprobTargets.length, pairs);
      for (const { beginCharacter, endCharacter, facts } of logprobTargets) {
        const value = promptText.slice(beginCharacter, endCharacter);
        assert.match(value, /^\d{7}$/);
        assert.equal(occurrences(promptText, value), 2);
        const line = promptText.slice(promptText.lastIndexOf('\n', beginCharacter), endCharacter);
        const [, key = '', again] =
          /^\nWhat is the special magic number for (\S+) mentioned in the provided text\? The special magic number for (\S+) mentioned in the provided text is \d+$/.exec(
            line,
          ) ?? [];
        assert.equal(again, key, line);
        const needle = promptText.indexOf(`magic numbers for ${key} is: ${value}.`);
        const distance = (beginCharacter - needle) / promptText.length;
        assert.ok(needle > 0 && distance > 0.05, String(distance));
        assert.ok(Math.abs(Number(facts['distanceTokens']) / 6_000 - distance) < 0.02);
        assert.ok(Math.abs(Number(facts['depthPercent']) - (100 * needle) / promptText.length) < 2);
      }
    }),
    { numRuns: 20 },
  );
});

test('questions inside the text stand in every part of it', async () => {
  const { promptText, logprobTargets } = await makeTask('midprompt', { lengthTokens: 16_384 });
  assert.equal(logprobTargets.length, 16);
  const shares = logprobTargets.map(({ beginCharacter }) => beginCharacter / promptText.length);
  for (let tenth = 2; tenth < 9; tenth += 1) {
    const inTenth = shares.filter((share) => Math.floor(share * 10) === tenth);
    assert.ok(inTenth.length > 0, `none in ${tenth}0 %`);
  }
});

test('a perplexity text is a raw piece of the book, covered by windows without gaps', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(20), async (seed, index) => {
      const document = await makeTask('ppl', { seed, index, lengthTokens: 4_000 });
      const { promptText, logprobTargets, chat, questions } = document;
      assert.ok(BOOK.includes(promptText));
      assert.match(promptText, /^\S/);
      assert.equal(chat, false);
      assert.deepEqual(questions, []);
      let end = 0;
      for (const { beginCharacter, endCharacter } of logprobTargets) {
        assert.equal(beginCharacter, end);
        assert.ok(endCharacter > beginCharacter);
        end = endCharacter;
      }
      assert.equal(end, promptText.length);
      const positions = logprobTargets.map(({ facts }) => Number(facts['positionTokens']));
      assert.ok((positions[0] ?? 0) < 300 && (positions.at(-1) ?? 0) > 3_700, String(positions));
    }),
    { numRuns: 12 },
  );
});

test('the perplexity texts of one length do not overlap', async () => {
  const spans = await Promise.all(
    [0, 1, 2, 3, 4, 5].map(async (index) => {
      const { promptText } = await makeTask('ppl', { index, lengthTokens: 8_000 });
      const begin = BOOK.indexOf(promptText);
      return [begin, begin + promptText.length] as const;
    }),
  );
  spans.sort(([one], [other]) => one - other);
  for (const [at, [begin]] of spans.entries()) {
    assert.ok(at === 0 || begin >= (spans[at - 1]?.[1] ?? 0));
  }
});

test('perplexity texts without room for all documents are refused before the first', async () => {
  const request = { lengthTokens: 100_000, index: 0, seed: 42, counter: countTokens };
  const book = { ...request, sources: packagedSources };
  await checkPerplexityRoom('ppl', { ...book, lengthTokens: 8_000 }, 3);
  await assert.rejects(checkPerplexityRoom('ppl', book, 4), {
    code: 'BAD_REQUEST',
    message: /room for 3 documents of 100000 tokens/,
  });
});

test('perplexity texts that end in long words have no room for a document there', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-texts-'));
  const text = `${'ab '.repeat(20_000)}${`${'x'.repeat(29)} `.repeat(200)}`;
  writeFileSync(join(folder, 'text.txt'), text);
  const sources = new TaskSources({ textFolder: folder });
  const counter = async (words: string): Promise<number> =>
    Promise.resolve(words.split(/\s+/).filter((word) => word !== '').length);
  const request = { lengthTokens: 1_000, index: 0, seed: 42, counter, sources };
  const refusal = await checkPerplexityRoom('ppl', request, 18).catch(String);
  rmSync(folder, { recursive: true });
  const room = Number(/room for (\d+) documents/.exec(String(refusal))?.[1]);
  assert.ok(room < 18, String(refusal));
  await checkPerplexityRoom('ppl', request, room);
  await assert.rejects(makeTask('ppl', { ...request, index: room }), /have room for/);
});

test('a perplexity text longer than all texts is refused with what there is', async () => {
  await assert.rejects(makeTask('ppl', { lengthTokens: 1_000_000 }), {
    code: 'BAD_REQUEST',
    message: /room for 0 documents of 1000000 tokens/,
  });
  await assert.rejects(
    makeTask('ppl', { lengthTokens: 100_000, index: 3 }),
    /room for 3 documents/,
  );
});

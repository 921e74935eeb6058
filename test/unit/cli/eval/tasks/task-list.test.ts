import assert from '../../../../support/assert.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import {
  needleSentence,
  NOISE_SENTENCE,
} from '../../../../../services/cli/eval/tasks/ruler/templates.js';
import { EVAL_TASKS, findTask } from '../../../../../services/cli/eval/tasks/task-list.js';
import { TaskSources } from '../../../../../services/cli/eval/tasks/task-sources.js';
import { packagedWords } from '../../../../../services/cli/eval/tasks/words.js';
import { countTokens, makeTask, sharedData, wholeTokens } from '../../../../support/eval-tasks.js';

const folder = mkdtempSync(join(tmpdir(), 'longshadow-tasks-'));
after(() => rmSync(folder, { recursive: true }));

/** Tasks that need no file of the user's. */
const NAMES = EVAL_TASKS.map(({ name }) => name).filter((name) => !name.startsWith('qa_'));

const uuid = '00000000-1111-2222-3333-444444444444';
/** Text of a unit, a generous one where units differ. */
const UNITS: Readonly<Record<string, string>> = {
  niah_single_1: NOISE_SENTENCE,
  vt: NOISE_SENTENCE,
  niah_multikey_2: needleSentence('numbers', 'incomprehensible-counterintelligence', '1234567'),
  niah_multikey_3: `${needleSentence('uuids', uuid, uuid)} and as their letters differ in tokens`,
  cwe: '1234. counterclockwise 1234. counterclockwise 1234. counterclockwise ',
  // One step can raise the counts of several ranks at once.
  fwe: 'qwxzvk '.repeat(8),
};
const PROSE_UNIT = ' incomprehensibleness—incomprehensibleness';

test('a document with question and answer is never too long, and within a unit of it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...NAMES),
      fc.integer({ min: 1_500, max: 6_000 }),
      fc.integer({ min: 1, max: 4 }),
      fc.nat(),
      fc.nat(5),
      async (name, lengthTokens, questionsPerDocument, seed, index) => {
        const request = { lengthTokens, questionsPerDocument, seed, index };
        const document = await makeTask(name, request);
        const left = lengthTokens - (await wholeTokens(document));
        const unit = await countTokens(`\n${UNITS[name] ?? PROSE_UNIT}`);
        assert.ok(left >= 0, `${name} is ${-left} tokens too long`);
        assert.ok(left <= unit, `${name} has ${left} tokens of room`);
      },
    ),
    { numRuns: 30 },
  );
});

test('tokens of the chat template are left free', async () => {
  const bare = await makeTask('niah_single_2');
  const document = await makeTask('niah_single_2', { templateTokens: 100 });
  const gained = (await wholeTokens(bare)) - (await wholeTokens(document));
  assert.ok(gained >= 90 && gained <= 110, String(gained));
});

test('a document is the same in every run, whatever was made before', async () => {
  for (const name of NAMES) {
    const request = { lengthTokens: 2_048, index: 3, seed: 7 };
    const first = await makeTask(name, request);
    const again = await makeTask(name, { ...request, sources: new TaskSources({}) });
    assert.deepEqual(first, again, name);
    assert.equal(first.id, `${name}/2048/3`);
    const other = await makeTask(name, { ...request, index: 4 });
    assert.notEqual(first.promptText, other.promptText, name);
    const reseeded = await makeTask(name, { ...request, seed: 8 });
    assert.notEqual(first.promptText, reseeded.promptText, name);
  }
});

test('questions and targets have ids of their own', async () => {
  for (const name of NAMES) {
    const request = { lengthTokens: 3_000, questionsPerDocument: 3 };
    const { questions, logprobTargets } = await makeTask(name, request);
    const ids = [...questions, ...logprobTargets].map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, name);
    assert.ok(ids.length > 0, name);
    for (const { metric, maxNewTokens } of questions) {
      assert.equal(metric, findTask(name).metric, name);
      assert.equal(maxNewTokens, findTask(name).maxNewTokens, name);
    }
  }
});

test('an unknown task is refused with the names there are', async () => {
  await assert.rejects(makeTask('niah'), {
    code: 'BAD_REQUEST',
    message: /unknown task niah: there are niah_single_1, .*vt, .*ppl$/,
  });
});

test('a length without room says which length has', async () => {
  // A word is room enough for perplexity.
  for (const name of NAMES.filter((each) => each !== 'ppl')) {
    let least = 0;
    await assert.rejects(makeTask(name, { lengthTokens: 30 }), (error: Error) => {
      const found = /^(\S+) has no room in 30 tokens: ask for (\d+) or more/.exec(error.message);
      assert.equal(found?.[1], name, error.message);
      least = Number(found[2]);
      return true;
    });
    const document = await makeTask(name, { lengthTokens: least + 20 });
    assert.ok((await wholeTokens(document)) <= least + 20, name);
  }
});

test('numbers out of range are refused', async () => {
  for (const request of [
    { lengthTokens: 0 },
    { index: -1 },
    { index: 0.5 },
    { questionsPerDocument: 0 },
    { depths: 0 },
    { templateTokens: -1 },
  ]) {
    await assert.rejects(makeTask('needle', request), { code: 'BAD_REQUEST' });
  }
});

test('the packaged words are many, plain and different', () => {
  const { adjectives, nouns, verbs, more } = packagedWords();
  assert.ok(adjectives.length > 900 && nouns.length > 2_500 && verbs.length > 500);
  assert.ok(more().length > 60_000);
  for (const list of [adjectives, nouns, verbs, more()]) {
    assert.equal(new Set(list).size, list.length);
    assert.ok(list.every((word) => /^[a-z]+$/.test(word)));
  }
});

test("keys come from wonderwords' own lists where their folder is named", async () => {
  const wordsFolder = sharedData('ruler/wonderwords');
  if (wordsFolder === null) return;
  const sources = new TaskSources({ wordsFolder });
  const { adjectives, nouns } = sources.words();
  assert.ok(adjectives.includes('quizzical') && nouns.includes('ATM'));
  const { questions } = await makeTask('niah_multikey_1', { sources });
  const key = / for (.+) mentioned/.exec(questions[0]?.questionText ?? '')?.[1] ?? '';
  const pairs = adjectives.some(
    (adjective) =>
      key.startsWith(`${adjective}-`) && nouns.includes(key.slice(adjective.length + 1)),
  );
  assert.ok(pairs, key);
});

test('prose to hide needles in may be any text file', async () => {
  const haystackFile = join(folder, 'prose.txt');
  writeFileSync(haystackFile, 'It rained. \n\n "So it did!" said Mr. Smith, and left. ');
  const sources = new TaskSources({ haystackFile });
  const { promptText } = await makeTask('niah_single_2', { sources, lengthTokens: 600 });
  const repeated = 'It rained. "So it did!" said Mr. Smith, and left. It rained.';
  assert.ok(promptText.includes(repeated), promptText);
});

test('wrong paths are refused before anything is made', () => {
  const nowhere = join(folder, 'nowhere');
  const empty = join(folder, 'empty.txt');
  writeFileSync(empty, ' \n ');
  const refused = (files: ConstructorParameters<typeof TaskSources>[0], task: string): void => {
    assert.throws(
      () => {
        new TaskSources(files).check(findTask(task).needs);
      },
      { code: 'BAD_REQUEST' },
      task,
    );
  };
  refused({ wordsFolder: nowhere }, 'cwe');
  refused({ haystackFile: nowhere }, 'needle');
  refused({ haystackFile: empty }, 'midprompt');
  refused({ textFolder: nowhere }, 'ppl');
  refused({}, 'qa_1');
  new TaskSources({ haystackFile: nowhere }).check(findTask('vt').needs);
});

import assert from '../../../../support/assert.js';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { benchmarkSubject } from '../../../../../services/cli/eval/run/benchmark-subject.js';
import { describePlanDifference } from '../../../../../services/cli/eval/run/run-plan.js';
import { taskSubject } from '../../../../../services/cli/eval/run/task-subject.js';
import type { TaskFiles } from '../../../../../services/cli/eval/tasks/task-sources.js';
import { readBook } from '../../../../../services/cli/text/book.js';
import { PLAN } from './run-samples.js';

type Options = Readonly<Record<string, string | number>>;

describe('The plan of a run', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'longshadow-plans-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const optionsOf = async (task: string, files: TaskFiles = {}): Promise<Options> => {
    const about = { benchmark: 'b', tasks: [task], lengths: [1_024], documents: 1, seed: 1 };
    return (await taskSubject({ ...about, files })).options;
  };

  test('binds the default words and haystack by their content', async () => {
    const plain = await optionsOf('needle');
    assert.deepEqual(Object.keys(plain), ['words', 'haystack']);
    const file = join(folder, 'book.txt');
    writeFileSync(file, readBook());
    assert.deepEqual(await optionsOf('needle', { haystackFile: file }), plain);
    writeFileSync(file, `${readBook()} The end.`);
    const other = await optionsOf('needle', { haystackFile: file });
    assert.equal(other['words'], plain['words']);
    assert.notEqual(other['haystack'], plain['haystack']);
  });

  test('binds word lists and texts that are given', async () => {
    for (const kind of ['adjective', 'noun', 'verb']) {
      writeFileSync(join(folder, `${kind}list.txt`), `one ${kind}\n`);
    }
    const words = await optionsOf('cwe', { wordsFolder: folder });
    assert.notDeepEqual(words, await optionsOf('cwe'));
    writeFileSync(join(folder, 'nounlist.txt'), 'another noun\n');
    assert.notDeepEqual(await optionsOf('cwe', { wordsFolder: folder }), words);
    assert.notDeepEqual(await optionsOf('ppl', { textFolder: folder }), await optionsOf('ppl'));
  });

  test('binds the files of a benchmark by their content, not their size', async () => {
    const line = (answer: string): string =>
      `${JSON.stringify({ id: 0, context: 'c', input: 'i', answer: [answer], options: [] })}\n`;
    const planOf = async (answer: string): Promise<Options> => {
      const data = join(folder, `of-${answer}`);
      mkdirSync(data);
      writeFileSync(join(data, 'passkey.jsonl'), line(answer));
      writeFileSync(join(data, 'notes.txt'), answer);
      const choice = { benchmark: 'infinitebench' as const, data, tasks: ['passkey'] };
      const all = { samplesPerTask: undefined, wording: undefined };
      return (await benchmarkSubject({ ...choice, ...all, lengths: [1_024] })).options;
    };
    const first = await planOf('12345');
    assert.notEqual((await planOf('12346'))['data'], first['data']);
  });

  test('tells runs of other generators apart', () => {
    const differences = describePlanDifference(PLAN, { ...PLAN, generators: 2 });
    assert.deepEqual(differences, ['generators was 1, now 2']);
  });
});

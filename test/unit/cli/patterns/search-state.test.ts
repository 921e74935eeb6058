import assert from '../../../support/assert.js';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SearchState } from '../../../../services/cli/patterns/search-state.js';
import { addSums } from '../../../../services/cli/patterns/trial-sums.js';
import { sumsWith } from './trial-fixture.js';

const PLAN = { model: 'abc', '--tokens': 4_096 };
const FIRST = sumsWith([{ 0: 0.5 }]);
const SECOND = sumsWith([{ 1: 0.25 }], 20);
const PLACES = FIRST.errors.length;

let folder: string;
let number = 0;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

function newFile(): string {
  number += 1;
  return join(folder, `${String(number)}.json`);
}

const open = (out: string, plan = PLAN, fresh = false): Promise<SearchState> =>
  SearchState.open(out, plan, PLACES, fresh);

test('a search goes on after its last whole prompt, with the sums to the bit', async () => {
  const out = newFile();
  const state = await open(out);
  assert.equal(state.finishedPrompts, 0);
  await state.add(false, FIRST);
  await state.add(false, SECOND);
  await state.add(true, SECOND);
  const again = await open(out);
  assert.equal(again.finishedPrompts, 3);
  assert.deepEqual(again.calibration, addSums(FIRST, SECOND));
  assert.deepEqual(again.heldOut, SECOND);
  await again.remove();
  assert.equal(existsSync(again.path), false);
  assert.equal((await open(out)).finishedPrompts, 0);
});

test('the file is whole after every prompt: nothing lies beside it', async () => {
  const out = newFile();
  const state = await open(out);
  await state.add(false, FIRST);
  assert.ok(readFileSync(state.path, 'utf8').endsWith('}\n'));
  assert.equal(existsSync(`${state.path}.new`), false);
});

test('a state of another plan is refused, says what differs and what to do, and is left', async () => {
  const out = newFile();
  const state = await open(out);
  await state.add(false, FIRST);
  await assert.rejects(open(out, { model: 'xyz', '--tokens': 8_192 }), {
    code: 'BAD_REQUEST',
    message: /model abc, not xyz; --tokens 4096, not 8192.*--fresh.*--out/s,
  });
  assert.equal((await open(out)).finishedPrompts, 1);
});

test('fresh forgets what is there', async () => {
  const out = newFile();
  await (await open(out)).add(false, FIRST);
  const state = await open(out, { model: 'xyz', '--tokens': 1 }, true);
  assert.equal(state.finishedPrompts, 0);
  assert.equal(state.calibration.rows, 0);
});

test('a file that is no state of this size is refused', async () => {
  for (const text of ['', '{}', '[1]', 'null', '{"plan": {}, "finishedPrompts": -1}']) {
    const out = newFile();
    writeFileSync(`${out}.search`, text);
    await assert.rejects(open(out), { code: 'BAD_REQUEST', message: /is not the state.*--fresh/ });
  }
  const out = newFile();
  await (await open(out)).add(false, FIRST);
  await assert.rejects(SearchState.open(out, PLAN, PLACES + 8, false), {
    code: 'BAD_REQUEST',
    message: /another number of heads/,
  });
});

test('a state without a prompt binds nobody', async () => {
  const out = newFile();
  await open(out);
  const state = await open(out, { model: 'xyz', '--tokens': 8_192 });
  await state.add(false, FIRST);
  await assert.rejects(open(out), { code: 'BAD_REQUEST', message: /model xyz, not abc/ });
});

test('a folder that cannot be written is refused before anything runs', async () => {
  await assert.rejects(open(join(folder, 'absent', 'out.json')), {
    code: 'BAD_REQUEST',
    message: /absent.*cannot be written.*give another file/,
  });
});

import assert from '../../support/assert.js';
import { test } from 'node:test';
import { FEW_ROWS, PendingRows } from '../../../services/decode/loop/pending-rows.js';

const ids = (length: number, first = 0): Uint32Array =>
  Uint32Array.from({ length }, (_, index) => first + index);

/** Sizes of the steps that take everything. */
function steps(rows: PendingRows, maxRows: number): number[] {
  const sizes: number[] = [];
  for (let count = rows.nextCount(maxRows); count > 0; count = rows.nextCount(maxRows)) {
    sizes.push(count);
    rows.take(count);
  }
  return sizes;
}

test('an answer runs as few rows, its last token together with the turn after it', () => {
  const rows = new PendingRows();
  rows.addAnswer(ids(10));
  rows.addPrompt(ids(20, 100));
  rows.addAnswer(ids(5, 200));
  assert.equal(rows.length, 35);
  assert.deepEqual(steps(rows, 64), [4, 4, 1, 21, 4, 1]);
  assert.equal(rows.length, 0);
});

test('rows come out in order, and each knows the one after it', () => {
  const rows = new PendingRows();
  rows.addAnswer(ids(3));
  rows.addPrompt(ids(2, 3));
  rows.addPrompt(ids(3, 5));
  rows.addAnswer(ids(1, 8));
  const seen: number[] = [];
  for (let count = rows.nextCount(64); count > 0; count = rows.nextCount(64)) {
    seen.push(...rows.peek(count));
    assert.equal(rows.after(count), seen.length < 9 ? seen.length : undefined);
    rows.take(count);
  }
  assert.deepEqual(seen, [...ids(9)]);
});

test('one answered token alone joins the turn after it', () => {
  const rows = new PendingRows();
  rows.addAnswer(ids(1));
  rows.addPrompt(ids(70, 1));
  assert.deepEqual([...rows.peek(2)], [0, 1]);
  assert.deepEqual(steps(rows, 64), [64, 7]);
});

test('nothing that is added is nothing that runs', () => {
  const rows = new PendingRows();
  rows.addPrompt(ids(0));
  rows.addAnswer(ids(0));
  assert.deepEqual([rows.length, rows.nextCount(64), rows.after(0)], [0, 0, undefined]);
  rows.addAnswer(ids(2));
  rows.addPrompt(ids(0));
  assert.deepEqual(steps(rows, 64), [2], 'an empty turn takes no token of the answer');
});

for (const maxRows of [64, 256]) {
  test(`no piece of a long turn is so short that its rows get other bits, ${maxRows} rows a step`, () => {
    for (let length = FEW_ROWS + 1; length < 600; length++) {
      const rows = new PendingRows();
      rows.addPrompt(ids(length));
      for (const count of steps(rows, maxRows)) {
        assert.ok(count <= maxRows);
        const inLastBlock = count % 64;
        assert.ok(inLastBlock === 0 || inLastBlock > FEW_ROWS, `${count} of ${length}`);
      }
    }
  });

  test(`a turn of few rows runs in one piece, ${maxRows} rows a step`, () => {
    for (let length = 1; length <= FEW_ROWS; length++) {
      const rows = new PendingRows();
      rows.addPrompt(ids(length));
      assert.deepEqual(steps(rows, maxRows), [length]);
    }
  });
}

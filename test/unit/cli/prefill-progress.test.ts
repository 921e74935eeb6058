import assert from '../../support/assert.js';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { PrefillProgress } from '../../../services/cli/output/prefill-progress.js';

/** A stream that collects what is written, terminal or not. */
function screen(isTTY: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  let text = '';
  const stream = Object.assign(new PassThrough(), {
    isTTY,
    columns: 200,
    cursorTo: () => true,
    clearLine: () => true,
    clearScreenDown: () => true,
    moveCursor: () => true,
  });
  stream.on('data', (piece: Buffer) => {
    text += piece.toString();
  });
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

test('without a terminal, a line comes every five seconds and at the end, with speed and time left', () => {
  const { stream, text } = screen(false);
  let nowMs = 0;
  const progress = new PrefillProgress(stream, () => nowMs);
  progress.update(0, null, 0, null);
  nowMs = 2_000;
  progress.update(2_000, 32_000, 0, 30_000);
  nowMs = 5_000;
  progress.update(8_000, 32_000, 0, 15_000);
  nowMs = 6_000;
  progress.update(32_000, 32_000, 0, 0);
  progress.stop();
  progress.stop();
  assert.deepEqual(text().split('\n'), [
    'prefill 0 of ? tokens',
    'prefill 8,000 of 32,000 tokens, 1,600 tokens/s, 15 s left',
    'prefill 32,000 of 32,000 tokens, 5,333 tokens/s',
    '',
  ]);
});

test('cached tokens do not count as speed', () => {
  const { stream, text } = screen(false);
  let nowMs = 0;
  const progress = new PrefillProgress(stream, () => nowMs);
  progress.update(10_000, 12_000, 10_000, null);
  nowMs = 1_000;
  progress.update(12_000, 12_000, 10_000, null);
  progress.stop();
  assert.match(text(), /12,000 of 12,000 tokens, 2,000 tokens\/s\n$/);
});

test('on a terminal the bar is ended once, however often it is stopped', () => {
  const { stream, text } = screen(true);
  const progress = new PrefillProgress(stream, () => 0);
  progress.update(50, 100, 0, null);
  progress.stop();
  const ended = text();
  progress.stop();
  progress.update(60, 100, 0, null);
  progress.stop();
  assert.equal(text(), ended);
  assert.match(ended, /50%.*50 of 100 tokens/);
  assert.ok(ended.endsWith('\n'));
});

test('nothing is written for a prompt without progress', () => {
  const { stream, text } = screen(false);
  new PrefillProgress(stream, () => 0).stop();
  assert.equal(text(), '');
});

test('after a restart it begins anew, and speed counts from there', () => {
  const { stream, text } = screen(false);
  let nowMs = 0;
  const progress = new PrefillProgress(stream, () => nowMs);
  progress.update(4_000, 12_000, 0, null);
  progress.restart();
  nowMs = 1_000;
  progress.update(2_000, 12_000, 0, null);
  nowMs = 2_000;
  progress.update(12_000, 12_000, 0, null);
  progress.stop();
  assert.deepEqual(text().split('\n'), [
    'prefill 4,000 of 12,000 tokens',
    'prefill 2,000 of 12,000 tokens',
    'prefill 12,000 of 12,000 tokens, 10,000 tokens/s',
    '',
  ]);
});

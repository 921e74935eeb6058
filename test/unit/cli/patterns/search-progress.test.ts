import assert from '../../../support/assert.js';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { SearchProgress } from '../../../../services/cli/patterns/search-progress.js';

const EXTENT = { prompts: 2, tokens: 4_096, denseBelowTokens: 0 };

function plainStream(): { stream: NodeJS.WriteStream; text: () => string } {
  let text = '';
  const stream = Object.assign(new PassThrough(), { isTTY: false });
  stream.on('data', (piece: Buffer) => {
    text += piece.toString();
  });
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

test('lines say which prompt, how much of it and how long the rest takes', () => {
  const { stream, text } = plainStream();
  let nowMs = 0;
  const progress = new SearchProgress(stream, EXTENT, 0, () => nowMs);
  nowMs = 30_000;
  progress.chunk({ beginToken: 0, endToken: 2_048 }, 4_000);
  nowMs = 33_000;
  progress.chunk({ beginToken: 2_048, endToken: 3_584 }, 4_000);
  nowMs = 60_000;
  progress.chunk({ beginToken: 3_584, endToken: 4_000 }, 4_000);
  progress.finishedPrompt();
  nowMs = 63_000;
  progress.chunk({ beginToken: 0, endToken: 2_048 }, 4_000);
  nowMs = 120_000;
  progress.chunk({ beginToken: 3_584, endToken: 4_000 }, 4_000);
  progress.finishedPrompt();
  progress.stop();
  const lines = text().split('\n');
  assert.match(lines[0] ?? '', /^patterns prompt 1 of 2, 2,048 of 4,000 tokens, 1 min \d+ s left$/);
  assert.equal(lines[1], 'patterns prompt 1 of 2, 4,000 of 4,000 tokens, 1 min 0 s left');
  assert.equal(lines[2], 'patterns prompt 2 of 2, 4,000 of 4,000 tokens, 0.00 s left');
  assert.deepEqual(lines.slice(3), ['']);
});

test('what an earlier start has done does not count as speed', () => {
  const { stream, text } = plainStream();
  let nowMs = 0;
  const progress = new SearchProgress(stream, { ...EXTENT, prompts: 4 }, 2, () => nowMs);
  nowMs = 10_000;
  progress.chunk({ beginToken: 0, endToken: 4_000 }, 4_000);
  assert.deepEqual(text().split('\n'), [
    'going on after 2 of 4 prompts',
    'patterns prompt 3 of 4, 4,000 of 4,000 tokens, 10 s left',
    '',
  ]);
});

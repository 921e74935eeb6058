import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { PromptPart } from '../../../proto/gen/longshadow/router/v1/PromptPart.js';
import { promptParts, type Prompt } from '../../../services/cli/rpc/prompt-parts.js';

const PART_BYTES = 64 * 1024;

async function collect(prompt: Prompt): Promise<PromptPart[]> {
  const parts: PromptPart[] = [];
  for await (const part of promptParts(prompt)) parts.push(part);
  return parts;
}

test('text is cut into parts of at most 64 KiB that join to the same bytes', async () => {
  const text = Buffer.from('é€'.repeat(40_000));
  const parts = await collect({ kind: 'text', bytes: [text, Buffer.from('end')] });
  const sizes = parts.map(({ text: piece }) => (piece as Buffer).length);
  assert.deepEqual(sizes, [PART_BYTES, PART_BYTES, PART_BYTES, 200_000 - 3 * PART_BYTES, 3]);
  const joined = Buffer.concat(parts.map(({ text: piece }) => piece as Buffer));
  assert.deepEqual(joined, Buffer.concat([text, Buffer.from('end')]));
});

test('a long message becomes a message part and text parts', async () => {
  const parts = await collect({
    kind: 'chat',
    messages: [
      { role: 'system', content: 'x'.repeat(PART_BYTES + 1) },
      { role: 'user', content: '' },
    ],
  });
  assert.equal(parts.length, 3);
  assert.equal(parts[0]?.message?.role, 'system');
  assert.equal((parts[0].message.content as Buffer).length, PART_BYTES);
  assert.equal((parts[1]?.text as Buffer).toString(), 'x');
  assert.deepEqual(parts[2]?.message, { role: 'user', content: Buffer.alloc(0) });
});

test('ids are cut into parts of 16,384', async () => {
  const ids = Array.from({ length: 40_000 }, (_, index) => index);
  const parts = await collect({ kind: 'ids', ids });
  assert.deepEqual(
    parts.map((part) => part.tokenIds?.ids?.length),
    [16_384, 16_384, 7_232],
  );
  assert.deepEqual(
    parts.flatMap((part) => part.tokenIds?.ids ?? []),
    ids,
  );
});

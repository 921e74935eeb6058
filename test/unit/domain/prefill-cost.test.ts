import assert from '../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { planPrefillChunks } from '../../../services/domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../../services/domain/token-range.js';
import {
  attentionPairs,
  type ChunkWork,
  DIAGONAL_KEYS,
  ESTIMATE_SHARE,
  remainingPrefillMs,
} from '../../../services/domain/prefill-cost.js';

const CHUNK_TOKENS = 2048;

/** Chunks of a prompt under the law, each part of each chunk off by its own factor. */
function run(
  totalTokens: number,
  linear: number,
  quadratic: number,
  noise: (chunk: number) => number,
): ChunkWork[] {
  const chunks: ChunkWork[] = [];
  for (let beginToken = 0; beginToken < totalTokens; beginToken += CHUNK_TOKENS) {
    const range = { beginToken, endToken: Math.min(beginToken + CHUNK_TOKENS, totalTokens) };
    const tokens = range.endToken - beginToken;
    const pairs = attentionPairs(range) + DIAGONAL_KEYS * tokens;
    const attentionMicros = quadratic * pairs * noise(chunks.length);
    const engineMicros = attentionMicros + linear * tokens * noise(chunks.length + 1);
    chunks.push({ ...range, attentionMicros, engineMicros, wallMicros: engineMicros });
  }
  return chunks;
}

test('attentionPairs counts each query with itself and all before it', () => {
  assert.equal(attentionPairs({ beginToken: 0, endToken: 3 }), 1 + 2 + 3);
  assert.equal(attentionPairs({ beginToken: 3, endToken: 5 }), 4 + 5);
});

test('the estimate after a tenth of the prompt is within 25 % when chunks stray by 10 %', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 20_480, max: 1_000_000 }),
      fc.double({ min: 1, max: 100, noNaN: true }),
      fc.double({ min: 1e-5, max: 1e-2, noNaN: true }),
      fc.array(fc.double({ min: 0.9, max: 1.1, noNaN: true }), { minLength: 7, maxLength: 7 }),
      (totalTokens, linear, quadratic, factors) => {
        const chunks = run(totalTokens, linear, quadratic, (at) => factors[at % 7] ?? 1);
        const tenth = chunks.findIndex((chunk) => chunk.endToken >= totalTokens / 10) + 1;
        const truthMs = chunks.slice(tenth).reduce((sum, c) => sum + c.engineMicros, 0) / 1000;
        const finished = chunks.slice(0, tenth);
        const nextToken = finished.at(-1)?.endToken ?? 0;
        const guessMs = remainingPrefillMs({
          finished,
          running: null,
          nextToken,
          totalTokens,
          sparse: null,
        });
        assert.ok(guessMs !== null);
        assert.ok(Math.abs(guessMs - truthMs) <= 0.25 * truthMs, `${guessMs} vs ${truthMs}`);
      },
    ),
  );
});

test('the work that the running chunk has done is not ahead any more', () => {
  const chunks = run(3 * CHUNK_TOKENS, 10, 1e-3, () => 1);
  const running = { ...(chunks[1] as ChunkWork), share: 0.5, elapsedMicros: 1 };
  const guessMs = remainingPrefillMs({
    finished: chunks.slice(0, 1),
    running,
    nextToken: 2 * CHUNK_TOKENS,
    totalTokens: 3 * CHUNK_TOKENS,
    sparse: null,
  });
  const truthMs = ((chunks[1]?.engineMicros ?? NaN) / 2 + (chunks[2]?.engineMicros ?? NaN)) / 1000;
  assert.ok(Math.abs((guessMs ?? NaN) - truthMs) < 1e-6 * truthMs);
});

test('waiting for other sessions stretches the estimate', () => {
  const alone = run(2 * CHUNK_TOKENS, 10, 1e-3, () => 1).slice(0, 1);
  const shared = alone.map((work) => ({ ...work, wallMicros: 3 * work.engineMicros }));
  const ahead = {
    ...{ running: null, nextToken: CHUNK_TOKENS, totalTokens: 2 * CHUNK_TOKENS },
    sparse: null,
  };
  const aloneMs = remainingPrefillMs({ ...ahead, finished: alone }) ?? NaN;
  const sharedMs = remainingPrefillMs({ ...ahead, finished: shared }) ?? NaN;
  assert.ok(Math.abs(sharedMs - 3 * aloneMs) < 1e-6 * sharedMs);
});

test('without a finished chunk only the last chunk has an estimate, from its own pace', () => {
  const running = { beginToken: 0, endToken: 900, share: 0.25, elapsedMicros: 1_000_000 };
  const only = { finished: [], running, nextToken: 900, sparse: null };
  assert.equal(remainingPrefillMs({ ...only, totalTokens: 900 }), 3000);
  assert.equal(remainingPrefillMs({ ...only, totalTokens: 5000 }), null);
  const early = { ...running, share: 0.01 };
  assert.equal(remainingPrefillMs({ ...only, running: early, totalTokens: 900 }), null);
});

const LIMITS: readonly { readonly name: string; readonly headTiles: readonly number[] }[] = [
  { name: 'alike in all heads', headTiles: [64] },
  { name: 'few in one head and many in the other', headTiles: [8, 2_048] },
  { name: 'many in all heads', headTiles: [512, 2_048] },
];
for (const { name, headTiles } of LIMITS) {
  test(`a sparse prompt is foretold by the keys that its tiles hold: ${name}`, () => {
    const denseBelowTokens = 8_192;
    const headsByTiles = new Map<number, number>();
    for (const tiles of headTiles) headsByTiles.set(tiles, (headsByTiles.get(tiles) ?? 0) + 1);
    const estimateShare = ESTIMATE_SHARE['vertical-slash'];
    const sparse = { denseBelowTokens, headsByTiles, estimateShare };
    const totalTokens = 1_000_000;
    const chunks = planPrefillChunks(totalTokens, 'cpu').map((range) =>
      sparseChunk(range, denseBelowTokens, headTiles),
    );
    for (const share of [0.02, 0.1, 0.5, 0.9]) {
      const count = chunks.findIndex(({ endToken }) => endToken >= share * totalTokens) + 1;
      const finished = chunks.slice(0, count);
      const nextToken = finished.at(-1)?.endToken ?? 0;
      const guess = { finished, running: null, nextToken, totalTokens, sparse };
      const truthMs = chunks.slice(count).reduce((sum, c) => sum + c.engineMicros, 0) / 1000;
      const error = Math.abs((remainingPrefillMs(guess) ?? NaN) - truthMs) / truthMs;
      assert.ok(error <= 0.25, `after ${String(share)}: off by ${String(error)}`);
    }
  });
}

test('choosing keys costs its share of dense attention, in sparse chunks alone', () => {
  const first = { beginToken: 0, endToken: 8_192 };
  const rest = { beginToken: 8_192, endToken: 1_000_000 };
  const dense = attentionPairs(first) + DIAGONAL_KEYS * first.endToken;
  const finished = [{ ...first, attentionMicros: dense, engineMicros: dense, wallMicros: dense }];
  const ahead = { finished, running: null, nextToken: 8_192, totalTokens: 1_000_000 };
  const leftMs = (estimateShare: number): number =>
    remainingPrefillMs({
      ...ahead,
      sparse: { denseBelowTokens: 8_192, headsByTiles: new Map([[64, 1]]), estimateShare },
    }) ?? NaN;
  const estimateMs = leftMs(ESTIMATE_SHARE['key-bounds']) - leftMs(0);
  const wantedMs = attentionPairs(rest) / 256 / 1000;
  assert.ok(Math.abs(estimateMs - wantedMs) < 1e-9 * wantedMs, `${estimateMs} vs ${wantedMs}`);
});

/** What a chunk costs whose blocks of 64 queries see all their key tiles, up to each head's limit. */
function sparseChunk(
  range: TokenRange,
  denseBelowTokens: number,
  headTiles: readonly number[],
): ChunkWork {
  const { beginToken, endToken } = range;
  const tokens = endToken - beginToken;
  const isDense = endToken <= denseBelowTokens;
  let keys = 0;
  for (const tiles of headTiles) {
    for (let block = beginToken; block < endToken; block += 64) {
      keys += 64 * (isDense ? block + 32 : Math.min(block + 32, tiles * 64));
    }
  }
  const estimate = isDense ? 0 : 64 * endToken;
  const attended = keys / headTiles.length + DIAGONAL_KEYS * tokens;
  const attentionMicros = 1e-3 * (attended + estimate);
  const engineMicros = attentionMicros + 10 * tokens;
  return { ...range, attentionMicros, engineMicros, wallMicros: engineMicros };
}

test('chunk times of a real prefill are foretold after a tenth', () => {
  // Attention of each chunk of a run of 32,768 tokens on 2 cores, in milliseconds, scaled to 2,000
  // for the rest of the chunk, which is the same work in each: other programs ran beside it. The
  // model had hidden size 512, 6 layers, 8 query and 2 kv heads of 64.
  const measured = [
    912, 2231, 3638, 5618, 6490, 8498, 8867, 8542, 12447, 13446, 14688, 17073, 17669, 18546, 20864,
    20785,
  ];
  const chunks = measured.map((attentionMs, index): ChunkWork => {
    const engineMicros = 1000 * (attentionMs + 2000);
    return {
      beginToken: index * CHUNK_TOKENS,
      endToken: (index + 1) * CHUNK_TOKENS,
      attentionMicros: 1000 * attentionMs,
      engineMicros,
      wallMicros: engineMicros,
    };
  });
  const totalTokens = chunks.length * CHUNK_TOKENS;
  for (let count = 1; count < chunks.length; count++) {
    const finished = chunks.slice(0, count);
    const nextToken = count * CHUNK_TOKENS;
    const guessMs = remainingPrefillMs({
      finished,
      running: null,
      nextToken,
      totalTokens,
      sparse: null,
    });
    const truthMs = chunks.slice(count).reduce((sum, c) => sum + c.engineMicros, 0) / 1000;
    const error = Math.abs((guessMs ?? NaN) - truthMs) / truthMs;
    assert.ok(error <= 0.25, `after ${String(count)} chunks: off by ${String(error)}`);
  }
});

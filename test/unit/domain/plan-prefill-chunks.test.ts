import assert from '../../support/assert.js';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { TokenRange } from '../../../services/domain/token-range.js';
import {
  clipPromptLogprobs,
  type CutRule,
  nextChunk,
  nextCut,
  planPrefillChunks,
  tailBegin,
} from '../../../services/domain/plan-prefill-chunks.js';

const rule = fc.constantFrom<CutRule>('cpu', 'gpu');
const length = fc.oneof(fc.integer({ min: 1, max: 6_000 }), fc.integer({ min: 1, max: 1_100_000 }));
const ends = (chunks: readonly TokenRange[]): number[] => chunks.map(({ endToken }) => endToken);

describe('the plan of a prompt', () => {
  const examples: { tokens: number; cutRule: CutRule; want: number[] }[] = [
    { tokens: 1, cutRule: 'cpu', want: [1] },
    { tokens: 639, cutRule: 'cpu', want: [639] },
    { tokens: 640, cutRule: 'cpu', want: [512, 640] },
    { tokens: 2_175, cutRule: 'cpu', want: [1_536, 2_175] },
    { tokens: 2_176, cutRule: 'cpu', want: [2_048, 2_176] },
    { tokens: 5_000, cutRule: 'cpu', want: [2_048, 4_096, 4_608, 5_000] },
    { tokens: 33_000, cutRule: 'gpu', want: [32_768, 33_000] },
    { tokens: 32_800, cutRule: 'gpu', want: [32_256, 32_800] },
  ];
  for (const { tokens, cutRule, want } of examples) {
    test(`${String(tokens)} tokens on ${cutRule} end at ${want.join(', ')}`, () => {
      assert.deepEqual(ends(planPrefillChunks(tokens, cutRule)), want);
    });
  }

  test('an empty prompt has no chunk', () => {
    assert.deepEqual(planPrefillChunks(0, 'cpu'), []);
  });

  test('cuts grow with position on a CPU and are even on a GPU', () => {
    assert.deepEqual(
      [0, 2_047, 2_048, 30_720, 32_768, 122_880, 131_072, 140_000].map((at) => nextCut(at, 'cpu')),
      [2_048, 2_048, 4_096, 32_768, 40_960, 131_072, 147_456, 147_456],
    );
    assert.deepEqual(
      [0, 32_767, 32_768, 999_999].map((at) => nextCut(at, 'gpu')),
      [32_768, 32_768, 65_536, 1_015_808],
    );
  });

  test('covers the prompt once, in order, on multiples of 512', () => {
    fc.assert(
      fc.property(length, rule, (tokens, cutRule) => {
        const chunks = planPrefillChunks(tokens, cutRule);
        assert.equal(chunks[0]?.beginToken, 0);
        assert.equal(chunks.at(-1)?.endToken, tokens);
        chunks.forEach(({ beginToken, endToken }, i) => {
          assert.equal(beginToken % 512, 0);
          assert.ok(beginToken < endToken);
          if (i > 0) assert.equal(chunks[i - 1]?.endToken, beginToken);
        });
      }),
    );
  });

  test('the tail is the last chunk and holds the last 128 tokens', () => {
    fc.assert(
      fc.property(length, rule, (tokens, cutRule) => {
        const tail = planPrefillChunks(tokens, cutRule).at(-1);
        assert.equal(tail?.beginToken, tailBegin(tokens));
        if (tokens >= 640)
          assert.ok(
            tail.endToken - tail.beginToken >= 128 && tail.endToken - tail.beginToken < 640,
          );
      }),
    );
  });

  test('prompts that begin alike have the same chunks up to their tails', () => {
    fc.assert(
      fc.property(length, length, rule, (a, b, cutRule) => {
        const shared = Math.min(tailBegin(a), tailBegin(b));
        const early = (tokens: number): TokenRange[] =>
          planPrefillChunks(tokens, cutRule).filter(({ endToken }) => endToken <= shared);
        const [shorter, longer] = a < b ? [early(a), early(b)] : [early(b), early(a)];
        // Only the cut at the shorter prompt's own tail is not a cut of position.
        const positional = shorter.filter(
          ({ beginToken, endToken }) => endToken === nextCut(beginToken, cutRule),
        );
        assert.deepEqual(longer.slice(0, positional.length), positional);
      }),
    );
  });

  test('streaming in any parts gives the plan of the closed prompt', () => {
    const steps = fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(steps, rule, (parts, cutRule) => {
        const chunks: TokenRange[] = [];
        let nextToken = 0;
        let receivedTokens = 0;
        const drain = (uploadClosed: boolean): void => {
          for (;;) {
            const chunk = nextChunk({ nextToken, receivedTokens, uploadClosed }, cutRule);
            if (chunk === null) return;
            assert.ok(uploadClosed || chunk.endToken <= receivedTokens - 128);
            chunks.push(chunk);
            nextToken = chunk.endToken;
          }
        };
        for (const part of parts) {
          receivedTokens += part;
          drain(false);
        }
        drain(true);
        assert.deepEqual(chunks, planPrefillChunks(receivedTokens, cutRule));
      }),
    );
  });

  test('of a continued session is the same, wherever it begins to run', () => {
    fc.assert(
      fc.property(fc.array(length, { minLength: 2, maxLength: 4 }), rule, (turns, cutRule) => {
        const turnCuts: number[] = [];
        let kept: TokenRange[] = [];
        let tokens = 0;
        for (const more of turns) {
          tokens += more + 4_096; // decode appends shorter turns itself
          const whole = planPrefillChunks(tokens, cutRule, turnCuts);
          assert.deepEqual(whole.slice(0, kept.length), kept, 'what earlier turns ran is kept');
          const tail = whole.at(-1)?.beginToken ?? 0;
          assert.equal(tail, tailBegin(tokens));
          turnCuts.push(tail);
          kept = whole.slice(0, -1);
        }
      }),
    );
  });

  test('every wanted log-probability but that of position 0 is computed by exactly one chunk', () => {
    const range = fc
      .tuple(fc.nat(9_000), fc.integer({ min: 1, max: 3_000 }))
      .map(([beginToken, size]) => ({ beginToken, endToken: beginToken + size }));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9_000 }), range, rule, (tokens, wanted, cutRule) => {
        const chunks = planPrefillChunks(tokens, cutRule);
        const computed = chunks.flatMap((chunk, i) =>
          clipPromptLogprobs([wanted], chunk, i === chunks.length - 1).flatMap(
            ({ beginToken, endToken }) =>
              Array.from({ length: endToken - beginToken }, (_, k) => beginToken + k),
          ),
        );
        const from = Math.max(wanted.beginToken, 1);
        const to = Math.min(wanted.endToken, tokens);
        assert.deepEqual(
          computed,
          Array.from({ length: Math.max(to - from, 0) }, (_, k) => from + k),
        );
      }),
    );
  });
});

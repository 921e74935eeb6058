import assert from '../../../support/assert.js';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { BenchProgress } from '../../../../services/cli/bench/bench-progress.js';
import { planPrefillChunks } from '../../../../services/domain/plan-prefill-chunks.js';
import { lawful } from './measured-chunks.js';

function plainStream(): { stream: NodeJS.WriteStream; lines: () => string[] } {
  let text = '';
  const stream = Object.assign(new PassThrough(), { isTTY: false });
  stream.on('data', (piece: Buffer) => {
    text += piece.toString();
  });
  return {
    stream: stream as unknown as NodeJS.WriteStream,
    lines: () => text.split('\n').slice(0, -1),
  };
}

const PLAN = planPrefillChunks(8_192, 'cpu');
const secondsOf = (untilToken: number): number =>
  PLAN.filter(({ beginToken }) => beginToken < untilToken)
    .map((range) => lawful(range).result.engineMicros / 1e6)
    .reduce((a, b) => a + b, 0);
const dense = (name: string, untilToken: number) => ({ name, untilToken, law: null });

test('lines say which policy, where it is and how long all of the rest takes', () => {
  const { stream, lines } = plainStream();
  let nowMs = 0;
  const policies = [dense('a', Infinity), dense('b', 4_096)];
  const extent = { tokens: 8_192, repeats: 2, policies };
  const progress = new BenchProgress(stream, extent, () => nowMs);
  const left: number[] = [];
  for (const repeat of [0, 1]) {
    for (const range of PLAN) {
      for (const policy of range.beginToken < 4_096 ? ['a', 'b'] : ['a']) {
        nowMs += 60_000;
        progress.chunk(lawful(range, { policy, repeat }));
        const shown = /([\d.]+) s left$/.exec(lines().at(-1) ?? '')?.[1];
        if (shown !== undefined) left.push(Number(shown));
      }
    }
  }
  progress.stop();
  assert.equal(lines()[0], 'bench repeat 1 of 2, a: 2,048 of 8,192 tokens', 'b is not known yet');
  assert.match(lines()[1] ?? '', /^bench repeat 1 of 2, b: 2,048 of 8,192 tokens, 0\.\d+ s left$/);
  assert.equal(lines().at(-1), 'bench repeat 2 of 2, a: 8,192 of 8,192 tokens, 0.00 s left');
  const whole = secondsOf(Infinity) + secondsOf(4_096);
  const first = lawful(PLAN[0] ?? { beginToken: 0, endToken: 0 }).result.engineMicros / 1e6;
  assert.ok(Math.abs((left[0] ?? NaN) - (2 * whole - 2 * first)) < 0.006, String(left));
  assert.deepEqual(
    left,
    [...left].sort((a, b) => b - a),
    'a lawful machine only comes nearer',
  );
});

import assert from '../../support/assert.js';
import { test } from 'node:test';
import { pairLine, requireSameToken, type Pair } from '../../bench/llama-cpp/compare.js';
import { HELP, parseOptions } from '../../bench/llama-cpp/options.js';

test('options of the benchmark against llama.cpp are checked, and any policy can be named', () => {
  const options = parseOptions(['--tokens', '2048,4096', '--policies', 'dense,flexprefill']);
  assert.ok(options !== 'help');
  assert.deepEqual(options.tokens, [2_048, 4_096]);
  assert.deepEqual(options.policies, ['dense', 'flexprefill']);
  assert.deepEqual([options.rounds, options.patterns, options.tune], [null, null, true]);
  assert.throws(() => parseOptions(['--policies', 'lucky']), /dense, minference, .*not lucky/);
  assert.throws(() => parseOptions(['--rounds', '0']), /--rounds takes whole numbers above 0/);
});

test('--help names every option', () => {
  assert.equal(parseOptions(['--help']), 'help');
  for (const name of ['tokens', 'policies', 'patterns', 'rounds', 'threads', 'no-tune']) {
    assert.ok(HELP.includes(`--${name}`), name);
  }
});

const pair: Pair = {
  ...{ policy: 'minference', tokens: 2_048 },
  ours: { seconds: 2, cpuSeconds: 4, nextToken: 1, logprob: -1, density: 0.25 },
  theirs: { seconds: 5, cpuSeconds: 10, nextToken: 2, logprob: -1 },
};

test('a ratio above 1 says that ours is faster; the density is ours', () => {
  const line = pairLine(pair, 1, 2);
  assert.deepEqual([line.ratio, line.tile_density, line.cpu_share], [2.5, 0.25, 1]);
});

test('only dense prefill must predict what llama.cpp does', () => {
  requireSameToken(pair);
  assert.throws(() => {
    requireSameToken({ ...pair, policy: 'dense' });
  }, /our next token is 1, llama\.cpp's 2/);
});

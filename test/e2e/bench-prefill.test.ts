import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { NEEDLE_MODEL } from '../support/cluster.js';
import { CLI_PATH, runCli } from '../support/run.js';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const bench = (tokens: number, ...more: string[]): string[] => [
  ...['bench', 'prefill', '--model', NEEDLE_MODEL, '--tokens', String(tokens), ...more],
];

describe('bench prefill', () => {
  test('prints a JSON line a policy, draws the picture, and shows progress on stderr', async () => {
    const svg = join(folder, 'prefill.svg');
    const { stdout, stderr } = await runCli(
      bench(2_048, '--policies', 'dense,minference', '--dense-below', '0', '--json', '--svg', svg),
    );
    const lines = stdout.split('\n').slice(0, -1);
    const figures = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      figures.map(({ policy, tokens, repeats }) => [policy, tokens, repeats]),
      [
        ['dense', 2_048, 1],
        ['minference', 2_048, 1],
      ],
    );
    for (const { seconds, tile_density: density } of figures) {
      assert.ok(Number(seconds) > 0 && Number(density) > 0 && Number(density) <= 1);
    }
    assert.match(stderr, /^bench (dense|minference): 2,048 of 2,048 tokens, 0\.00 s left$/m);
    assert.match(readFileSync(svg, 'utf8'), /needle: prefill of 2,048 tokens/);
  });

  test('ends at SIGINT with status 130, and prints nothing that looks like a result', async () => {
    const svg = join(folder, 'stopped.svg');
    const args = bench(524_288, '--json', '--svg', svg);
    const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const stdout = text(child.stdout);
    let stderr = '';
    let isStopped = false;
    child.stderr.on('data', (piece: Buffer) => {
      stderr += piece.toString();
      // A second signal would end it at once.
      if (!isStopped && stderr.includes('bench ')) isStopped = child.kill('SIGINT');
    });
    const [code] = (await once(child, 'close')) as [number | null];
    assert.equal(code, 130, stderr);
    assert.equal(await stdout, '');
    assert.match(stderr, /stopped; what was measured is not printed/);
    assert.equal(existsSync(svg), false);
  });

  const WRONG: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['an unknown policy', bench(2_048, '--policies', 'lucky'), /lucky is no policy; want some of/],
    ['no repeats', bench(2_048, '--repeats', '0'), /--repeats.*from 1/s],
    ['too many tokens', bench(2 ** 21), /PROMPT_TOO_LONG: --tokens 2097152.*1048576/],
    ['a gamma of 0', bench(2_048, '--gamma', '0'), /--gamma.*above 0, at most 1/s],
    [
      'an end of dense chunks without dense',
      bench(2_048, '--policies', 'minference', '--dense-until', '1024'),
      /BAD_REQUEST: --dense-until.*name dense in --policies/,
    ],
    ['a picture nowhere', bench(2_048, '--svg', '/nowhere/x.svg'), /BAD_REQUEST: --svg: .*nowhere/],
  ];
  for (const [what, args, message] of WRONG) {
    test(`refuses ${what}, and says what to change`, async () => {
      const { stderr, stdout } = await runCli(args, { expectCode: 1 });
      assert.match(stderr, message);
      assert.equal(stdout, '');
    });
  }
});

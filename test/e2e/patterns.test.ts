import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { loadPatterns } from '../../services/platform/patterns/load-patterns.js';
import { checkPatternShape } from '../../services/platform/patterns/parse-patterns.js';
import { NEEDLE_MODEL } from '../support/cluster.js';
import { CLI_PATH, runCli } from '../support/run.js';

const SMALL = [
  ...['--tokens', '2048', '--prompts', '1', '--held-out', '1'],
  ...['--dense-below', '512', '--tiles', '8'],
];
const SHAPE = { layers: 6, queryHeads: 4 };

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const search = (out: string, ...more: string[]): string[] => [
  ...['patterns', 'search', '--model', NEEDLE_MODEL, '--out', out],
  ...SMALL,
  ...more,
];

const refused = async (args: readonly string[], message: RegExp): Promise<void> => {
  const { stderr } = await runCli(args, { expectCode: 1 });
  assert.match(stderr, message);
};

interface Summary {
  choices: { layer: number; head: number; candidate: number; error: number }[];
  candidates: { name: string; pattern: string; columns: number; distances: number }[];
  heldOut: { layer: number | null; chosen: { error: number }; control: { error: number } }[];
}

describe('patterns search', () => {
  let out: string;
  let summary: Summary;

  before(async () => {
    out = join(folder, 'patterns.json');
    const { stdout, stderr } = await runCli(search(out, '--json'));
    summary = JSON.parse(stdout) as Summary;
    assert.match(stderr, /^patterns prompt 1 of 2, [\d,]+ of [\d,]+ tokens, .* left$/m);
  });

  test('writes a file that a worker loads as what the summary says', async () => {
    const { patterns } = await loadPatterns(NEEDLE_MODEL, out);
    checkPatternShape(patterns, SHAPE, out);
    assert.equal(summary.choices.length, SHAPE.layers * SHAPE.queryHeads);
    for (const { layer, head, candidate, error } of summary.choices) {
      const { pattern, columns, distances } = summary.candidates[candidate] ?? {};
      const read = patterns[layer]?.get(head);
      assert.deepEqual(read, { pattern, columns, distances, tiles: 8 });
      assert.ok(error > 0 && error < 1);
    }
    assert.equal(existsSync(`${out}.search`), false, 'nothing is left to go on with');
  });

  test('checks the choice on another prompt, by layer and over all', () => {
    assert.deepEqual(
      summary.heldOut.map(({ layer }) => layer),
      [0, 1, 2, 3, 4, 5, null],
    );
    const all = summary.heldOut.at(-1);
    assert.ok(all && all.chosen.error > 0 && all.chosen.error < all.control.error);
  });

  test('goes on after its last whole prompt with the same options, and with no others', async () => {
    const stopped = join(folder, 'stopped.json');
    await stopAfterFirstPrompt(search(stopped));
    const state = readFileSync(`${stopped}.search`, 'utf8');
    assert.equal((JSON.parse(state) as { finishedPrompts: number }).finishedPrompts, 1);
    assert.equal(existsSync(stopped), false);
    await refused(search(stopped, '--seed', '2'), /another search: --seed 1, not 2\..*--fresh/);
    writeFileSync(`${stopped}.search`, state.replace(/"model":"\w+"/, '"model":"other"'));
    await refused(search(stopped), /another search: model other, not .*--fresh/);
    writeFileSync(`${stopped}.search`, state);
    const { stderr } = await runCli(search(stopped));
    assert.match(stderr, /^going on after 1 of 2 prompts$/m);
    assert.equal(readFileSync(stopped, 'utf8'), readFileSync(out, 'utf8'));
  });

  test('draws a head of the file it wrote', async () => {
    const picture = join(folder, 'head.svg');
    const args = [
      ...['patterns', 'show', '--model', NEEDLE_MODEL, '--patterns', out],
      ...['--layer', '2', '--head', '1', '--tokens', '1536', '--out', picture],
    ];
    const { stdout } = await runCli(args);
    assert.match(stdout, /head\.svg: .*, \d+\.\d % of the keys, relative error \d+\.\d %\n$/);
    const svg = readFileSync(picture, 'utf8');
    assert.match(svg, /needle, layer 2, head 1: /);
    await runCli(args);
    assert.equal(readFileSync(picture, 'utf8'), svg, 'the same bytes each time');
  });
});

describe('patterns search without --out', () => {
  let model: string;
  let served: string;

  before(() => {
    model = join(folder, 'model');
    served = join(model, 'minference.json');
    mkdirSync(model);
    for (const file of readdirSync(NEEDLE_MODEL)) {
      if (file !== 'minference.json') symlinkSync(join(NEEDLE_MODEL, file), join(model, file));
    }
  });
  const searchHere = (...more: string[]): string[] => [
    ...['patterns', 'search', '--model', model, ...SMALL, '--held-out', '0', ...more],
  ];

  test("writes the model's own file where there is none, and does not replace it unasked", async () => {
    await runCli(searchHere());
    const first = readFileSync(served, 'utf8');
    const asked = /minference\.json is there.*--out.*--force/s;
    await refused(searchHere('--seed', '2'), asked);
    await refused(searchHere('--seed', '2', '--out', served), asked);
    assert.equal(readFileSync(served, 'utf8'), first);
    assert.equal(existsSync(`${served}.search`), false, 'refused before the first prompt');
  });

  test('replaces it with --force', async () => {
    writeFileSync(served, '[]');
    await runCli(searchHere('--force'));
    const { patterns } = await loadPatterns(model, null);
    assert.equal(patterns.length, SHAPE.layers);
  });

  test('another file is written over as before', async () => {
    const other = join(folder, 'again.json');
    writeFileSync(other, '[]');
    await runCli(searchHere('--out', other));
    assert.notEqual(readFileSync(other, 'utf8'), '[]');
  });
});

/** Interrupts a search in its second prompt. */
async function stopAfterFirstPrompt(args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const state = `${args[args.indexOf('--out') + 1] ?? ''}.search`;
  const lines = createInterface(child.stderr);
  const watch = setInterval(() => {
    if (existsSync(state) && readFileSync(state, 'utf8').includes('"finishedPrompts":1')) {
      clearInterval(watch); // a second signal would end it at once
      child.kill('SIGINT');
    }
  }, 5);
  const said: string[] = [];
  lines.on('line', (line) => said.push(line));
  const [code] = (await once(child, 'close')) as [number | null];
  clearInterval(watch);
  assert.equal(code, 130, said.join('\n'));
  assert.match(said.join('\n'), /stopped; the same command goes on from the last whole prompt/);
}

describe('patterns, asked wrongly', () => {
  const out = (): string => join(folder, 'refused.json');
  const show = (...more: string[]): string[] => [
    ...['patterns', 'show', '--model', NEEDLE_MODEL, '--out', join(folder, 'x.svg'), ...more],
  ];

  test('a search is refused with what to change', async () => {
    await refused(
      ['patterns', 'search', '--model', join(folder, 'absent'), '--out', out()],
      /MODEL_INVALID: .*absent/,
    );
    await refused(search(out(), '--tiles', '0'), /--tiles.*want an integer from 4 to/s);
    await refused(search(out(), '--tokens', '99999999'), /PROMPT_TOO_LONG.*1048576/);
    await refused(
      search(out(), '--dense-below', '4096'),
      /dense throughout: .*--tokens.*--dense-b/,
    );
    await refused(search(join(folder, 'no', 'x.json')), /cannot be written.*another file/);
    assert.equal(existsSync(`${out()}.search`), false, 'what was refused leaves no state');
  });

  test('a picture is refused with what to change', async () => {
    await refused(show('--layer', '6', '--head', '0'), /--layer 6: the model has 6, .*0 to 5/);
    await refused(show('--layer', '0', '--head', '4'), /--head 4: the model has 4, .*0 to 3/);
    await refused(show('--layer', '0', '--head', '0', '--patterns', out()), /refused\.json/);
    const prompt = ['--prompt-file', join(folder, 'absent.txt')];
    await refused(show('--layer', '0', '--head', '0', ...prompt), /--prompt-file .*absent\.txt/);
    assert.equal(existsSync(join(folder, 'x.svg')), false);
  });
});

import assert from '../../../../support/assert.js';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { SampleResult } from '../../../../../services/cli/eval/eval-types.js';
import type { ReportOptions } from '../../../../../services/cli/eval/report/summary-types.js';
import { writeReport } from '../../../../../services/cli/eval/report/write-report.js';
import { parseXml } from './parse-xml.js';
import { answer, answers, span } from './sample-results.js';

const OPTIONS: ReportOptions = {
  title: 'Dense | <needles>',
  command: 'longshadow eval needle --lengths 4096,8192',
  facts: { model: 'needle_small' },
};

function needles(policy: string, shareRight: number): SampleResult[] {
  return [4_096, 8_192].flatMap((length) =>
    Array.from({ length: 110 }, (_, at) =>
      answer('needle', length, policy, at, at < shareRight * 110 ? 1 : 0, {
        depthPercent: (at % 11) * 10,
      }),
    ),
  );
}

function texts(policy: string, nats: number): SampleResult[] {
  return [4_096, 8_192].flatMap((length) =>
    Array.from({ length: 32 }, (_, at) =>
      span('ppl', length, policy, at, nats + (at % 4) / 10, {
        positionTokens: Math.round((length * (at + 0.5)) / 32),
      }),
    ),
  );
}

async function write(
  t: TestContext,
  results: readonly SampleResult[],
  options: ReportOptions = OPTIONS,
): Promise<{ folder: string; paths: string[]; markdown: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'longshadow-report-'));
  t.after(async () => rm(folder, { recursive: true }));
  const paths = await writeReport(results, join(folder, 'new'), options);
  return { folder, paths, markdown: await readFile(paths[0] ?? '', 'utf8') };
}

function costing(tileDensity: number, results: readonly SampleResult[]): SampleResult[] {
  return results.map((result) => ({ ...result, tileDensity }));
}

test('a report is tables under their command, the same as JSON, and pictures', async (t) => {
  const { folder, paths, markdown } = await write(t, [
    ...needles('dense', 0.9),
    ...texts('dense', 2),
  ]);
  const pictures = [
    'needle-dense-depths',
    'needle-score',
    'ppl-4096-positions',
    'ppl-8192-positions',
    'ppl-perplexity',
  ].map((name) => `${name}.svg`);
  assert.deepEqual((await readdir(join(folder, 'new', 'pictures'))).sort(), pictures);
  assert.equal(paths.length, 2 + pictures.length);
  for (const name of pictures) {
    parseXml(await readFile(join(folder, 'new', 'pictures', name), 'utf8'));
    assert.ok(markdown.includes(`(<pictures/${name}>)`), name);
  }
  assert.match(markdown, /^# Dense \\\| \\<needles\\>\n\n```sh\nlongshadow eval needle/);
  assert.match(markdown, /\* model: needle\\_small\n/);
  assert.match(markdown, /\| needle \| 4K \| dense \| 11 \| 110 \| 90\.0 \| 83\.0 to 94\.3 \|/);
  assert.match(markdown, /\| ppl \| 8K \| dense \| 4 \| 32 \| 320 \| 8\.58 \| /);
  const json = JSON.parse(await readFile(paths[1] ?? '', 'utf8')) as Record<string, unknown[]>;
  assert.equal(json['title'], OPTIONS.title);
  assert.equal(json['rows']?.length, 4);
});

test('while dense alone ran there is no control column, nor one against dense', async (t) => {
  const { markdown } = await write(t, needles('dense', 0.9));
  assert.doesNotMatch(markdown, /control|against dense|evidence/);
  const controls = { minference: 'a-shape' };
  const both = [...needles('dense', 0.9), ...needles('a-shape', 0.1)];
  const only = await write(t, both, { ...OPTIONS, controls });
  assert.doesNotMatch(only.markdown, /\| control/, 'a control alone is no sparse policy');
  assert.match(only.markdown, /\| a-shape \(control\) \|/);
});

test('from the first sparse policy on, its control stands beside it', async (t) => {
  const results = [
    ...needles('dense', 0.9),
    ...costing(0.12, needles('minference', 0.9)),
    ...costing(0.125, needles('a-shape', 0.1)),
    ...answers('vt', 4_096, 'dense', 97),
    ...costing(0.14, answers('vt', 4_096, 'minference', 94)),
    ...answers('vt', 4_096, 'a-shape', 97),
  ];
  const controls = { minference: 'a-shape' };
  const { markdown } = await write(t, results, { ...OPTIONS, controls });
  const row = (task: string) =>
    markdown.split('\n').find((line) => line.startsWith(`| ${task} | 4K | minference`)) ?? '';
  assert.match(
    row('needle'),
    /\| 0\.0 \| −2\.5 to \+2\.5 \| yes: 0 lost \| 12\.5 \| 10\.0 \| −80\.0 \(.*\) \| yes \|$/,
  );
  assert.match(
    row('vt'),
    /\| −3\.0 \| .* \| no: 3 lost \| – \| 97\.0 \| 0\.0 \(.*\) \| no evidence: a-shape does as well as dense \|$/,
  );
  assert.match(markdown, /^\| vt \| 4K \| a-shape \(control\) \|.*\| – \| – \| – \|$/m);
  const mean = /^\| 4K \| minference \| 13\.0 \| 2 \|.*$/m.exec(markdown)?.[0] ?? '';
  // (10 + 97) / 2; -80 and 0 against dense.
  assert.match(mean, /\| 53\.5 \| −40\.0 \(.*\) \| yes \|$/);
});

test('pictures name what a policy cost, and leave points hollow that are no evidence', async (t) => {
  const results = [
    ...[...needles('dense', 0.9), ...texts('dense', 2)],
    ...costing(0.12, [...needles('minference', 0.9), ...texts('minference', 2)]),
    ...costing(0.125, [...needles('a-shape', 0.9), ...texts('a-shape', 3)]),
  ];
  const controls = { minference: 'a-shape' };
  const policies = ['dense', 'minference', 'a-shape'];
  const { folder } = await write(t, results, { ...OPTIONS, controls, policies });
  const read = async (name: string): Promise<string> =>
    readFile(join(folder, 'new', 'pictures', `${name}.svg`), 'utf8');
  const scores = await read('needle-score');
  assert.match(scores, /; hollow: no evidence</);
  assert.equal(scores.match(/class="mark hollow s1"/g)?.length, 2, 'those of minference alone');
  assert.equal(scores.match(/class="mark hollow/g)?.length, 2);
  assert.match(scores, />minference, 12\.0 % of tiles</);
  assert.match(scores, />dense</);
  assert.match(await read('needle-minference-depths'), /; no evidence at 4K, 8K</);
  assert.doesNotMatch(await read('needle-dense-depths'), /no evidence/);
  for (const name of ['ppl-perplexity', 'ppl-4096-positions']) {
    assert.doesNotMatch(await read(name), /class="mark hollow|no evidence/, name);
  }
});

test('a cell of fewer than 100 answers says how many are missing', async (t) => {
  const results = [
    ...answers('vt', 4_096, 'dense', 60, 60),
    ...answers('vt', 4_096, 'minference', 60, 60),
  ];
  const { markdown } = await write(t, results);
  assert.match(markdown, /minference \|.*\| 0\.0 \| [^|]+ \| needs 40 more answers \|/);
});

test('the order in which results came does not change a byte', async (t) => {
  const results = [...needles('dense', 0.9), ...needles('minference', 0.5), ...texts('dense', 2)];
  const [one, other] = [await write(t, results), await write(t, [...results].reverse())];
  assert.equal(one.paths.length, other.paths.length);
  for (const [at, path] of one.paths.entries()) {
    assert.equal(await readFile(path, 'utf8'), await readFile(other.paths[at] ?? '', 'utf8'));
  }
});

test('hostile names of tasks and policies stay inside cells, pictures and the folder', async (t) => {
  const results = ['../a|b\n`c`', '../a|b `c`'].flatMap((policy) =>
    Array.from({ length: 22 }, (_, at) =>
      answer('<t>', 4_096, policy, at, 1, { depthPercent: at % 2 === 0 ? 0 : 100 }),
    ),
  );
  const options = { ...OPTIONS, command: 'a\n```\nb' };
  const { folder, markdown } = await write(t, results, options);
  const names = await readdir(join(folder, 'new', 'pictures'));
  assert.deepEqual(names.sort(), ['t-a-b-c-depths-2.svg', 't-a-b-c-depths.svg', 't-score.svg']);
  assert.match(markdown, /````sh\na\n```\nb\n````/);
  assert.match(markdown, /\| \\<t\\> \| 4K \| \.\.\/a\\\|b \\`c\\` \|/);
});

test('a report without results is refused', async () => {
  await assert.rejects(async () => writeReport([], 'nowhere', OPTIONS), RangeError);
});

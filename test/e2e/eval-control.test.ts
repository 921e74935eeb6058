import assert from '../support/assert.js';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Summary, SummaryRow } from '../../services/cli/eval/report/summary-types.js';
import type { RunPlan } from '../../services/cli/eval/run/run-plan.js';
import { startTestCluster, type TestCluster } from '../support/cluster.js';
import { EvalProcess, readSamples } from '../support/eval-run.js';

/* A sparse policy beside dense, and the window that it has to beat. */

/** Eight tiles, of the 32 that the last query block of 2K tokens could see. */
const RUN = ['--lengths', '2K', '--policies', 'dense,minference@8', '--concurrency', '2'];
const POLICIES = ['dense', 'minference@8', 'a-shape@8'];
/** Questions amid the text: prefill answers them, with the keys that it looked at. */
const MIDPROMPT = ['midprompt', '--documents', '4', ...RUN];
/** Questions behind the text: decode answers them, with all keys that there are. */
const NEEDLE = ['needle', '--documents', '1', '--depths', '4', ...RUN];

describe('An evaluation of sparse prefill', () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
  const out = join(folder, 'midprompt');
  let servers: TestCluster;
  before(async () => {
    servers = await startTestCluster({ ROUTER_DENSE_BELOW_TOKENS: '0' });
  });
  after(async () => {
    await servers.stop();
    rmSync(folder, { recursive: true });
  });

  const start = (run: readonly string[], path: string, cluster = servers): EvalProcess =>
    new EvalProcess(path, [...run, '--router', cluster.address]);
  const planOf = (path: string): RunPlan =>
    JSON.parse(readFileSync(join(path, 'run.json'), 'utf8')) as RunPlan;
  const rowsOf = (path: string): readonly SummaryRow[] =>
    (JSON.parse(readFileSync(join(path, 'summary.json'), 'utf8')) as Summary).rows;
  const pictureOf = (path: string, name: string): string =>
    readFileSync(join(path, 'pictures', `${name}.svg`), 'utf8');

  test('takes its control with it, and writes down what both were resolved to', async () => {
    const run = start(MIDPROMPT, out);
    await run.writes(1);
    run.signal('SIGINT');
    await run.ends(130);
    const { policies, thresholds } = planOf(out);
    assert.deepEqual(policies, POLICIES);
    const [sparse, control] = [thresholds?.['minference@8'], thresholds?.['a-shape@8']];
    assert.deepEqual([sparse?.tilesPerBlock, sparse?.denseBelowTokens], [8, 0]);
    assert.match(sparse?.patternsSha256 ?? '', /^[0-9a-f]{64}$/);
    assert.deepEqual([control?.tilesPerBlock, control?.patternsSha256], [8, '']);
  });

  test('does not go on with a cluster that resolves its policies to something else', async () => {
    const before = readSamples(out).length;
    const other = await startTestCluster({ ROUTER_DENSE_BELOW_TOKENS: '512' });
    try {
      const { stderr } = await start(MIDPROMPT, out, other).ends(1);
      assert.match(stderr, /denseBelowTokens of minference@8 was 0, now 512;.* of a-shape@8 was 0/);
      assert.match(stderr, /start the cluster with the thresholds and the pattern file/);
    } finally {
      await other.stop();
    }
    assert.equal(readSamples(out).length, before);
  });

  test('goes on, and sets its window beside it, with what both cost', async () => {
    const { stdout } = await start(MIDPROMPT, out).ends();
    const rows = rowsOf(out);
    assert.deepEqual(
      rows.map(({ policy, role, documents }) => [policy, role, documents]),
      [
        ['dense', 'dense', 4],
        ['minference@8', 'sparse', 4],
        ['a-shape@8', 'control', 4],
      ],
    );
    const [dense, sparse, control] = rows;
    assert.equal(dense?.tileDensity, 1);
    for (const density of [sparse?.tileDensity, control?.tileDensity]) {
      assert.ok((density ?? 1) > 0.2 && (density ?? 1) < 0.7, `${density}`);
    }
    assert.equal(sparse?.control?.policy, 'a-shape@8');
    assert.equal(sparse.control.tileDensity, control?.tileDensity);
    assert.ok((control?.surprise?.aboveDense?.low ?? 0) > 0, 'it saw too little of the text');
    assert.equal(sparse.evidence, 'some');
    assert.match(stdout, /\| tile density, % \|.*\| control against dense \| evidence \|/);
    assert.match(stdout, /\n\* minference@8: 8 tiles a block, dense below 0 tokens, patterns /);
    const picture = pictureOf(out, 'midprompt-perplexity');
    assert.match(picture, />a-shape@8, \d+\.\d % of tiles</);
    assert.doesNotMatch(picture, /no evidence/);
  });

  test('is no evidence where a window does as well as dense, and says so', async () => {
    const needle = join(folder, 'needle');
    const { stdout } = await start(NEEDLE, needle).ends();
    assert.equal(rowsOf(needle)[1]?.evidence, 'none');
    assert.match(stdout, /\| minference@8 \|.*\| no evidence: a-shape@8 does as well as dense \|/);
    assert.match(pictureOf(needle, 'needle-score'), /; hollow: no evidence</);
  });

  test('is no evidence without its window, and says so', async () => {
    const alone = join(folder, 'alone');
    const { stdout } = await start([...NEEDLE, '--no-control'], alone).ends();
    assert.deepEqual(planOf(alone).policies, POLICIES.slice(0, 2));
    assert.equal(rowsOf(alone)[1]?.evidence, 'no control');
    assert.match(stdout, /\| minference@8 \|.*\| no evidence: no control ran \|/);
  });
});

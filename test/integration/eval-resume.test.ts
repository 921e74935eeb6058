import assert from '../support/assert.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { heldBy, startTestCluster, type TestCluster } from '../support/cluster.js';
import { EvalProcess, findings, readSamples } from '../support/eval-run.js';
import { poll } from '../support/poll.js';

/* A run goes on: through a router's death, after Ctrl-C, after its cluster was away. */

const DOCUMENTS = 4;
const DEPTHS = 4;
const SAMPLES = DOCUMENTS * DEPTHS;
const RUN = [
  ...['needle', '--lengths', '1K', '--documents', String(DOCUMENTS)],
  ...['--depths', String(DEPTHS), '--concurrency', '2'],
];
/** A router that was killed is started again after some seconds, and frees what its clients left. */
const FREE_WITHIN_MS = 30_000;

describe('A run of longshadow eval', () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
  const undisturbed = join(folder, 'undisturbed');
  let servers: TestCluster;
  let idle: unknown;

  const start = (cluster: TestCluster, name: string, more: readonly string[] = []): EvalProcess =>
    new EvalProcess(join(folder, name), [...RUN, '--router', cluster.address, ...more]);

  const isIdle = async (cluster: TestCluster): Promise<void> => {
    const ask = async (): Promise<unknown> => {
      const { members, sessions } = await cluster.status();
      return { held: heldBy(members), sessions };
    };
    const wanted = JSON.stringify(idle);
    await poll(ask, (now) => JSON.stringify(now) === wanted, FREE_WITHIN_MS, 100);
  };

  before(async () => {
    servers = await startTestCluster({}, { onRestart: () => undefined });
    const { members, sessions } = await servers.status();
    idle = { held: heldBy(members), sessions };
  });
  after(async () => {
    await servers.stop();
    rmSync(folder, { recursive: true });
  });

  test('asks every question once and leaves nothing in the cluster', async () => {
    const { stdout, stderr } = await start(servers, 'undisturbed').ends();
    assert.equal(readSamples(undisturbed).length, SAMPLES);
    assert.equal(
      new Set(findings(undisturbed).map((found) => JSON.stringify(found))).size,
      SAMPLES,
    );
    assert.match(stdout, /\| needle \| 1K \| dense \| 4 \| 16 \|/);
    assert.match(stderr, new RegExp(`\\[${DOCUMENTS}/${DOCUMENTS}\\] needle/1024/`));
    await isIdle(servers);
  });

  test('that is complete asks nothing more', async () => {
    const { stderr } = await start(servers, 'undisturbed').ends();
    assert.doesNotMatch(stderr, /needle\/1024\//);
    assert.equal(readSamples(undisturbed).length, SAMPLES);
  });

  test('goes on by itself when its router is killed and comes back', async () => {
    const run = start(servers, 'killed');
    await run.writes(3);
    await servers.cluster.kill('router', 0);
    const before = readSamples(run.out).length;
    assert.ok(before < SAMPLES, `${before} samples were there when its router was killed`);
    await run.ends();
    assert.deepEqual(findings(run.out), findings(undisturbed));
    await isIdle(servers);
  });

  test('that is interrupted frees what it holds, and the same command goes on', async () => {
    const run = start(servers, 'interrupted');
    await run.writes(2);
    run.signal('SIGINT');
    const { stderr } = await run.ends(130);
    assert.match(stderr, /stopped; the same command goes on with/);
    await isIdle(servers);
    const before = readSamples(run.out).length;
    assert.ok(before < SAMPLES, `${before} samples were there when it was interrupted`);
    await start(servers, 'interrupted').ends();
    assert.deepEqual(findings(run.out), findings(undisturbed));
    await isIdle(servers);
  });

  test('whose cluster goes away says how to go on, and does so on another one', async () => {
    const other = await startTestCluster();
    let run: EvalProcess;
    try {
      run = start(other, 'away', ['--patience', '2']);
      await run.writes(1);
    } finally {
      await other.stop();
    }
    const { stderr } = await run.ends(1);
    assert.match(stderr, /^error: .*of 4 documents are in .*: the same command goes on/m);
    assert.equal(stderr.match(/^error: /gm)?.length, 1);
    await start(servers, 'away').ends();
    assert.deepEqual(findings(run.out), findings(undisturbed));
  });

  test('is refused where a run with another seed is', async () => {
    const { stderr } = await start(servers, 'undisturbed', ['--seed', '2']).ends(1);
    assert.match(stderr, /another plan: seed was 1, now 2/);
    assert.equal(readSamples(undisturbed).length, SAMPLES);
  });
});

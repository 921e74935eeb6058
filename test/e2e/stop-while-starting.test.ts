import assert from '../support/assert.js';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  defaultStoreBase,
  processesOfCluster,
} from '../../services/cli/cluster/cluster-directories.js';
import { poll } from '../support/poll.js';
import { CLI_PATH } from '../support/run.js';

/** A start takes seconds; one that is told to stop must not go on to its end. */
const AT_ONCE_MS = 2_500;

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Starting {
  readonly child: ChildProcess;
  readonly clusterId: string;
  readonly stderr: () => string;
}

/** Starts a program and waits until `services` of its processes run (Redis and janitor are shells). */
async function start(args: readonly string[], services: number): Promise<Starting> {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, TMPDIR: folder, REDIS_URL: '' },
  });
  let stderr = '';
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
  const clusterId = await poll(
    () => /^longshadow-cluster-(.+)$/m.exec(readdirSync(folder).join('\n'))?.[1] ?? '',
    (id) => id !== '',
    30_000,
  );
  const isService = (process: string): boolean => /^\d+ (node|longshadow)/.test(process);
  await poll(
    () => processesOfCluster(clusterId).filter(isService).length,
    (count) => count >= services,
    30_000,
    5,
  );
  return { child, clusterId, stderr: () => stderr };
}

function leftOf(clusterId: string): string[] {
  return [
    ...processesOfCluster(clusterId),
    ...readdirSync(folder).filter((name) => name.startsWith('longshadow-')),
    ...[join(defaultStoreBase(), `cluster-${clusterId}`)].filter((path) => existsSync(path)),
  ];
}

for (const [what, args, services] of [
  ['up before any service', ['up', '--router-listen', '127.0.0.1:0'], 0],
  ['up while worker and decode open the model', ['up', '--router-listen', '127.0.0.1:0'], 2],
  ['the demo while worker and decode open the model', ['demo'], 2],
] as const) {
  test(`Ctrl-C stops ${what}, at once and without a trace`, async () => {
    const { child, clusterId, stderr } = await start(args, services);
    child.kill('SIGINT');
    const killedMs = performance.now();
    const [code] = (await once(child, 'exit')) as [number];
    assert.ok(performance.now() - killedMs < AT_ONCE_MS);
    assert.equal(code, 130);
    assert.equal(stderr(), 'cancelled; everything is stopped\n');
    assert.deepEqual(leftOf(clusterId), []);
  });
}

for (const [when, services] of [
  ['while it starts', 1],
  ['once all services run', 3],
] as const) {
  test(`SIGKILL of the demo ${when} leaves no process and no file`, async () => {
    const { child, clusterId } = await start(['demo', '--tokens', '16000'], services);
    child.kill('SIGKILL');
    await poll(
      () => leftOf(clusterId),
      (left) => left.length === 0,
      15_000,
    );
  });
}

import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { processesOfCluster } from '../../services/cli/cluster/cluster-directories.js';
import { makeClient } from '../../services/platform/rpc/client.js';
import { generate, idParts } from '../support/generate.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';
import { CLI_PATH } from '../support/run.js';

interface Ready {
  readonly routers: readonly string[];
  readonly clusterId: string;
  readonly store: string;
  readonly members: readonly { readonly name: string; readonly pid: number }[];
}

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('up starts what dies again, under the same name and address, and leaves nothing', async () => {
  const counts = ['--routers', '2', '--workers', '2', '--decodes', '2'];
  const args = ['up', '--router-listen', '127.0.0.1:0', '--store', folder, '--json', ...counts];
  const up = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: folder, REDIS_URL: '' },
  });
  const said: string[] = [];
  createInterface({ input: up.stderr }).on('line', (line) => said.push(line));
  const [line] = (await once(createInterface({ input: up.stdout }), 'line')) as [string];
  const ready = JSON.parse(line) as Ready;
  assert.deepEqual(
    ready.members.map(({ name }) => name),
    ['redis', 'worker-0', 'worker-1', 'decode-0', 'decode-1', 'router-0', 'router-1'],
  );
  const killed = ['redis', 'worker-0', 'worker-1', 'decode-0', 'decode-1', 'router-0'];
  for (const { name, pid } of ready.members) {
    if (killed.includes(name)) process.kill(pid, 'SIGKILL');
  }
  for (const name of killed) {
    await poll(
      () => said.join('\n'),
      (text) => new RegExp(`^${name} serves again: pid \\d+, `, 'm').test(text),
      60_000,
    );
    assert.match(said.join('\n'), new RegExp(`${name} \\(pid \\d+\\) ended by SIGKILL; .* in 1 s`));
  }
  const { prompt, answer } = needleSample(0);
  for (const address of ready.routers) {
    const client = makeClient('router', address, null);
    const result = await generate(client, { maxNewTokens: 20 }, idParts(prompt));
    assert.deepEqual(result.ids.slice(0, answer.length), answer);
    client.close();
  }
  up.kill('SIGINT');
  assert.deepEqual(await once(up, 'exit'), [0, null], said.join('\n'));
  assert.deepEqual(processesOfCluster(ready.clusterId), []);
  assert.ok(!existsSync(ready.store));
  const left = readdirSync(folder).filter((name) => /longshadow|cluster/.test(name));
  assert.deepEqual(left, []);
});

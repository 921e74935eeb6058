import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { needleSample } from '../support/needle-samples.js';
import { CLI_PATH, runCli } from '../support/run.js';

let cluster: TestCluster;
let folder: string;
let ids: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  ids = join(folder, 'ids.json');
  writeFileSync(ids, JSON.stringify({ ids: needleSample(0).prompt }));
  cluster = await startTestCluster({}, { routers: 2 });
});
after(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface PrintedEvent {
  readonly type: string;
  readonly sessionId: string;
  readonly sequence: number;
  readonly tokenId?: number;
}

const routers = (): string => cluster.cluster.routerAddresses.join(',');

function events(stdout: string): PrintedEvent[] {
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as PrintedEvent);
}

const tokenIds = (printed: readonly PrintedEvent[]): unknown[] =>
  printed.filter(({ type }) => type === 'token').map(({ tokenId }) => tokenId);

const ASK = ['--ignore-eos', '--temperature', '1', '--seed', '5', '--json'];

test('a kept session is resumed and forked, and both go on alike', async () => {
  const ask = ['generate', '--router', routers(), '--model', MODEL, ...ASK];
  const first = await runCli([
    ...[...ask, '--ids', ids, '--max-new-tokens', '6'],
    ...['--keep-session-ms', '60000', '--priority', 'high'],
  ]);
  const printed = events(first.stdout);
  const session = printed[0]?.sessionId ?? '';
  const resumed = await runCli([
    ...['resume', '--router', routers(), '--session', session],
    ...['--after', '2', '--json'],
  ]);
  assert.deepEqual(
    events(resumed.stdout),
    printed.filter(({ sequence }) => sequence > 2),
  );
  const forked = await runCli(['fork', '--router', routers(), '--session', session]);
  const fork = forked.stdout.trim();
  assert.match(fork, /^[0-9a-f]{32}$/);
  assert.notEqual(fork, session);
  assert.match(forked.stderr, /tokens, kept until/);
  const turn = ['--prompt', ' And then?', '--max-new-tokens', '5'];
  const answers: unknown[] = [];
  for (const each of [session, fork]) {
    const { stdout } = await runCli([...ask, ...turn, '--continue', each]);
    answers.push(tokenIds(events(stdout)));
  }
  assert.equal((answers[0] as unknown[]).length, 5);
  assert.deepEqual(answers[0], answers[1]);
});

test('generate survives the death of its router, and prints every token once', async () => {
  const args = ['generate', '--router', routers(), '--model', MODEL, '--ids', ids, ...ASK];
  const long = [...args, '--max-new-tokens', '400'];
  const undisturbed = events((await runCli(long)).stdout);
  const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...long]);
  const stderr = text(child.stderr);
  let stdout = '';
  child.stdout.on('data', (piece: Buffer) => {
    stdout += piece.toString();
  });
  while (!stdout.includes('"type":"token"')) await once(child.stdout, 'data');
  await cluster.cluster.kill('router', 0);
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 0, await stderr);
  assert.match(await stderr, /^router \S+ is gone; going on at \S+$/m);
  const printed = events(stdout);
  assert.deepEqual(
    printed.map(({ sequence }) => sequence),
    printed.map((_, index) => index + 1),
  );
  assert.deepEqual(tokenIds(printed), tokenIds(undisturbed));
});

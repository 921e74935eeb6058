import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import {
  processesOfCluster,
  processStartTicks,
} from '../../services/cli/cluster/cluster-directories.js';
import { MODEL, NEEDLE_MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';
import { CLI_PATH, run, runCli } from '../support/run.js';

let cluster: TestCluster;
let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  cluster = await startTestCluster();
});
after(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

const NUMBER = '4071936';
const FILLER = 'The ship sailed on through the night, and nobody on deck said a word. '.repeat(40);
const CHAT = [
  {
    role: 'system',
    content: `${FILLER} One of the special magic numbers for quiet-river is: ${NUMBER}. ${FILLER}`,
  },
  {
    role: 'user',
    content: 'What is the special magic number for quiet-river mentioned in the text above?',
  },
];

const target = (): string[] => ['--router', cluster.address, '--model', MODEL];

test('generate answers a chat file: the answer on stdout, the figures on stderr', async () => {
  const chat = join(folder, 'chat.json');
  writeFileSync(chat, JSON.stringify(CHAT));
  const { stdout, stderr } = await runCli(['generate', ...target(), '--chat', chat]);
  assert.match(stdout, new RegExp(NUMBER));
  assert.doesNotMatch(stdout, /tokens\/s/);
  assert.match(stderr, /prefill [\d,]+ of [\d,]+ tokens/);
  assert.match(stderr, /prompt tokens, prefill [\d,]+ tokens\/s, first token after .* s, /);
});

test('generate --json prints the events of a prompt in ids, with log-probabilities', async () => {
  const { prompt, answer } = needleSample(0);
  const ids = join(folder, 'ids.json');
  writeFileSync(ids, JSON.stringify({ ids: prompt }));
  const { stdout } = await runCli([
    'generate',
    ...target(),
    '--ids',
    ids,
    '--prompt-logprobs',
    '10:12',
    '--json',
  ]);
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown> & { type: string });
  const tokens = events.filter(({ type }) => type === 'token').map(({ tokenId }) => tokenId);
  assert.deepEqual(tokens.slice(0, answer.length), answer);
  assert.equal(events[0]?.type, 'accepted');
  assert.equal(events.at(-1)?.type, 'finished');
  const scored = events.flatMap(
    ({ promptLogprobs }) => (promptLogprobs ?? []) as { position: number; tokenId: number }[],
  );
  assert.deepEqual(
    scored.map(({ position, tokenId }) => [position, tokenId]),
    [
      [10, prompt[10]],
      [11, prompt[11]],
    ],
  );
});

test('generate reads standard input and sampling options; the same seed gives the same text', async () => {
  const args = ['generate', ...target(), '-', '--max-new-tokens', '8', '--ignore-eos'];
  const sampled = [...args, '--temperature', '1.5', '--seed', '9'];
  const input = 'Call me Ishmael. '.repeat(30);
  const [first, second] = await Promise.all([
    runCli(sampled, { input }),
    runCli(sampled, { input }),
  ]);
  assert.ok(first.stdout.length > 1);
  assert.equal(first.stdout, second.stdout);
});

test('Ctrl-C cancels: status 130 and nothing is held', async () => {
  const child = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      CLI_PATH,
      'generate',
      ...target(),
      '-',
      '--max-new-tokens',
      '4000',
      '--ignore-eos',
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  child.stdin.end('Call me Ishmael. '.repeat(30));
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 130);
  await poll(
    () => cluster.status(),
    ({ sessions }) => sessions.length === 0,
    2_000,
  );
});

test('status shows members as a table and as JSON', async () => {
  const { stdout } = await runCli(['status', '--router', cluster.address]);
  assert.match(stdout, /^MEMBER +ADDRESS.* PATTERNS$/m);
  assert.match(stdout, /^worker-.* [0-9a-f]{12}$/m);
  assert.match(stdout, /^decode-/m);
  assert.match(stdout, /no sessions/);
  const json = await runCli(['status', '--router', cluster.address, '--json']);
  const status = JSON.parse(json.stdout) as { members: { residentBytes: number }[] };
  assert.equal(status.members.length, 2);
  assert.ok(status.members.every(({ residentBytes }) => residentBytes > 10 * 2 ** 20));
});

test('models inspect tells shape, size and tokenizer of the embedded model', async () => {
  const { stdout } = await runCli(['models', 'inspect', NEEDLE_MODEL, '--json']);
  const model = JSON.parse(stdout) as Record<string, Record<string, unknown>>;
  assert.equal(model['notServedBecause'], null);
  assert.equal(model['kvBytesPerToken'], 3_072);
  assert.equal(model['shape']?.['layers'], 6);
  assert.equal(model['shape']['headDim'], 64);
  assert.equal(model['weights']?.['parameters'], 10_425_216);
  assert.equal(model['tokenizer']?.['tokens'], 4_096);
  assert.equal(model['tokenizer']['hasChatTemplate'], true);
  const human = await runCli(['models', 'inspect', NEEDLE_MODEL]);
  assert.match(human.stdout, /^served +yes$/m);
  assert.match(human.stdout, /384 MiB at 128K tokens, 3\.0 GiB at 1M/);
});

test("the router's refusal reaches the user with its code", async () => {
  const { stderr } = await runCli(
    ['generate', '--router', cluster.address, '--model', 'nobody', '--prompt', 'a'],
    { expectCode: 1 },
  );
  assert.match(stderr, /^error: UNKNOWN_MODEL: .*nobody/);
  const policy = await runCli(['generate', ...target(), '--prompt', 'a', '--cache', 'locret'], {
    expectCode: 1,
  });
  assert.match(policy.stderr, /^error: POLICY_NOT_AVAILABLE: /);
});

test('a chat file that is not UTF-8 is refused, not repaired', async () => {
  const chat = join(folder, 'latin1.json');
  writeFileSync(chat, Buffer.from('[{"role": "user", "content": "Caf\u00e9"}]', 'latin1'));
  const { stderr } = await runCli(['generate', ...target(), '--chat', chat], { expectCode: 1 });
  assert.match(stderr, /^error: BAD_REQUEST: .*latin1\.json: .*utf-8/i);
});

test('a refusal ends generate although standard input is still open', async () => {
  const args = ['generate', '--router', cluster.address, '--model', 'nobody', '-'];
  const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, ...args], { stdio: 'pipe' });
  const [errors] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.equal(child.exitCode, 1);
  assert.match(errors, /^error: UNKNOWN_MODEL: /);
});

test('Ctrl-C ends generate although standard input is still open', async () => {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', CLI_PATH, 'generate', ...target(), '-'],
    { stdio: 'pipe' },
  );
  child.stdin.write('Call me Ishmael. ');
  await poll(
    () => cluster.status(),
    ({ sessions }) => sessions.length === 1,
    10_000,
  );
  child.kill('SIGINT');
  const [errors] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.equal(child.exitCode, 130);
  assert.equal(errors, '\ncancelled\n');
  await poll(
    () => cluster.status(),
    ({ sessions }) => sessions.length === 0,
    2_000,
  );
});

// Of every command: test/unit/cli/program.test.ts.
test('--help prints what a command does, with examples', async () => {
  const commands = [[], ['generate'], ['patterns', 'search']];
  await Promise.all(
    commands.map(async (command) => {
      const { stdout } = await runCli([...command, '--help']);
      assert.match(stdout, /Examples:\n {2}\S/, command.join(' '));
    }),
  );
});

interface UpLine {
  readonly router: string;
  readonly store: string;
  readonly temporary: string;
  readonly clusterId: string;
  readonly members: readonly { role: string; pid: number }[];
}

async function startUp(): Promise<{ line: UpLine; child: ReturnType<typeof spawn> }> {
  const child = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      CLI_PATH,
      'up',
      '--router-listen',
      '127.0.0.1:0',
      '--store',
      join(folder, 'up'),
      '--workers',
      '2',
      '--json',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  assert.ok(child.stdout);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { line: JSON.parse(line) as UpLine, child };
}

async function leavesNothing({ clusterId, members, store, temporary }: UpLine): Promise<void> {
  await poll(
    () => [
      ...processesOfCluster(clusterId),
      ...members.filter(({ pid }) => processStartTicks(pid) !== null).map(({ role }) => role),
      ...[store, temporary, join(folder, 'up')].filter((path) => existsSync(path)),
    ],
    (left) => left.length === 0,
    15_000,
  );
}

test('up serves with two workers, and SIGTERM ends it without a trace', async () => {
  const { line, child } = await startUp();
  assert.deepEqual(line.members.map(({ role }) => role).sort(), [
    'decode',
    'redis',
    'router',
    'worker',
    'worker',
  ]);
  const { stdout } = await runCli(['status', '--router', line.router, '--json']);
  assert.equal((JSON.parse(stdout) as { members: unknown[] }).members.length, 3);
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0);
  await leavesNothing(line);
});

test('SIGKILL of up, even in the middle of work, leaves no child and no file', async () => {
  const { line, child } = await startUp();
  const ids = join(folder, 'long.json');
  writeFileSync(ids, JSON.stringify(needleSample(2).prompt));
  const client = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      CLI_PATH,
      'generate',
      '--router',
      line.router,
      '--model',
      MODEL,
      '--ids',
      ids,
      '--json',
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  await once(client.stdout, 'data');
  child.kill('SIGKILL');
  await Promise.all([once(client, 'exit'), leavesNothing(line)]);
});

test('the demo answers right and leaves nothing', async () => {
  const { stdout } = await runCli(['demo', '--tokens', '6000']);
  assert.match(stdout, /^prompt +[\d,]+ tokens of Moby Dick with 4 needles/m);
  assert.match(stdout, /^answer +\S/m);
  assert.match(stdout, /^right +the number is \d{7}/m);
  assert.match(stdout, /first token after/);
  assert.match(stdout, /decode +[\d.]+ tokens\/s/);
  assert.match(stdout, /no process, shared-memory file or temporary folder is left/);
  // Plain where there is no terminal.
  assert.ok(!stdout.includes('\u001b'));
});

test('Ctrl-C in the middle of the demo leaves nothing', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI_PATH, 'demo'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  const [errors] = await Promise.all([
    text(child.stderr),
    once(child.stderr, 'readable').then(() => child.kill('SIGINT')),
  ]);
  if (child.exitCode === null) await once(child, 'exit');
  assert.equal(child.exitCode, 130);
  assert.match(errors, /^prefill .*\ncancelled; everything is stopped\n$/s);
  const socket = lines.find((line) => line.includes('redis.sock')) ?? '';
  const clusterId = /cluster-([0-9a-f-]+)\//.exec(socket)?.[1] ?? '';
  assert.notEqual(clusterId, '');
  assert.deepEqual(processesOfCluster(clusterId), []);
  assert.ok(!existsSync(join(tmpdir(), `longshadow-cluster-${clusterId}`)));
});

test('without redis-server, up says what to install', async () => {
  const { stderr } = await run(
    process.execPath,
    ['--import', 'tsx', CLI_PATH, 'up', '--router-listen', '127.0.0.1:0'],
    {
      environment: { PATH: folder, REDIS_URL: '' },
      expectCode: 1,
    },
  );
  assert.match(stderr, /^error: REDIS_UNAVAILABLE: .*apt-get install -y redis-server.*REDIS_URL/);
});

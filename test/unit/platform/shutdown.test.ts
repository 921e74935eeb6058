import assert from '../../support/assert.js';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('../../support/runs-main.ts', import.meta.url));

interface Run {
  readonly child: ChildProcess;
  /** Resolves when stdout holds the text. */
  says(text: string): Promise<void>;
  ended(): Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function start(does: string, env: Record<string, string> = {}, flags: string[] = []): Run {
  const child = spawn(process.execPath, ['--import', 'tsx', SCRIPT, ...flags], {
    env: { ...process.env, LONGSHADOW_LOG_LEVEL: 'info', PROBE_DOES: does, ...env },
  });
  let stdout = '';
  let stderr = '';
  const exited = once(child, 'close') as Promise<[number | null]>;
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  return {
    child,
    says: async (text) => {
      while (!stdout.includes(text)) await once(child.stdout, 'data');
    },
    ended: async () => {
      const [code] = await exited;
      return { code, stdout, stderr };
    },
  };
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} lets main end, with exit code 0`, async () => {
    const run = start('waits');
    await run.says('ready');
    run.child.kill(signal);
    const { code, stdout, stderr } = await run.ended();
    assert.equal(code, 0);
    assert.match(stdout, /ended well/);
    assert.match(stderr, new RegExp(`"why":"${signal}"`));
  });
}

test('a second SIGINT ends a main that hangs', async () => {
  const run = start('hangs');
  await run.says('ready');
  run.child.kill('SIGINT');
  await once(run.child.stderr ?? run.child, 'data');
  run.child.kill('SIGINT');
  assert.equal((await run.ended()).code, 130);
});

test('a main that throws is logged as one line of JSON and exits 1', async () => {
  const { code, stderr } = await start('throws').ended();
  assert.equal(code, 1);
  const line = JSON.parse(stderr.trim()) as { msg: string; name: string };
  assert.equal(line.msg, 'no model');
  assert.equal(line.name, 'probe');
});

test('an unhandled rejection is logged and exits 1', async () => {
  const { code, stderr } = await start('rejects').ended();
  assert.equal(code, 1);
  assert.match(stderr, /unhandled rejection/);
  assert.match(stderr, /a bug/);
});

test('the end of the parent ends the child, which cleans up', async () => {
  const run = start('waits', { LONGSHADOW_EXIT_WITH_PARENT: '1' });
  await run.says('ready');
  run.child.stdin?.end(); // what the kernel does to the pipe when the parent dies
  const { code, stdout, stderr } = await run.ended();
  assert.equal(code, 0);
  assert.match(stdout, /ended well/);
  assert.match(stderr, /parent process is gone/);
});

test('the end of the parent ends even a child that hangs, after its grace time', async () => {
  const run = start('hangs', { LONGSHADOW_EXIT_WITH_PARENT: '1' });
  await run.says('ready');
  run.child.stdin?.end();
  assert.equal((await run.ended()).code, 1);
});

test('--check-config prints what is in force, or every problem', async () => {
  const good = await start('waits', { PROBE_NEEDED: 'x' }, ['--check-config']).ended();
  assert.equal(good.code, 0);
  assert.deepEqual(JSON.parse(good.stdout), { PROBE_NEEDED: 'x' });
  const bad = await start('waits', {}, ['--check-config']).ended();
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /PROBE_NEEDED is not set/);
});

test('an argument that is none ends the process before its main begins', async () => {
  const { code, stdout, stderr } = await start('waits', {}, ['--tls-crt', 'a.crt']).ended();
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /"level":60.*"msg":"Unknown option '--tls-crt'/);
});

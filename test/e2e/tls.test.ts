import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { ChannelCredentials, Client, status } from '@grpc/grpc-js';
import { ThrowawayCa, tlsEnvironment } from '../../services/cli/cluster/throwaway-ca.js';
import type { TlsFiles } from '../../services/platform/config/common-settings.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import { writeCertificate, writeEndedCertificate } from '../support/certificates.js';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { poll } from '../support/poll.js';
import { CLI_PATH, runCli } from '../support/run.js';

const ours = await ThrowawayCa.create('Test services');
const ROLES = ['router', 'worker', 'decode'] as const;

let folder: string;
let cluster: TestCluster;
/** Of the cluster's services, as its operator would give them. */
let tls: TlsFiles;
let environment: NodeJS.ProcessEnv;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  tls = await writeCertificate(folder, ours);
  environment = tlsEnvironment(tls);
  cluster = await startTestCluster(environment);
});
after(async () => {
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

const flagsOf = ({ certPath, keyPath, caPath }: TlsFiles): string[] => [
  ...['--tls-cert', certPath, '--tls-key', keyPath, '--tls-ca', caPath ?? ''],
];

const generateArgs = (address: string): string[] => [
  ...['generate', '--router', address, '--model', MODEL, '--prompt', 'Call me Ishmael. '],
  ...['--max-new-tokens', '4', '--ignore-eos'],
];

/** OK, or the code of the refusal: NO_WORKER stands for a connection that was not made. */
async function answerOf(
  role: (typeof ROLES)[number],
  address: string,
  files: TlsFiles | null,
): Promise<string> {
  const client = makeClient(role, address, files);
  const options = { timeoutMs: 10_000, unavailable: 'NO_WORKER' } as const;
  try {
    await unaryCall(client, 'getStatus', {}, options);
    return 'OK';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    client.close();
  }
}

function addressOf(running: TestCluster, role: (typeof ROLES)[number]): string {
  return running.cluster.member(role, 0).address;
}

test('with mutual TLS between all services, generate and status work', async () => {
  const { address } = cluster;
  const { stdout } = await runCli(generateArgs(address), { environment });
  assert.ok(stdout.length > 1);
  const byFlags = ['status', '--router', address, '--json', ...flagsOf(tls)];
  const status = await runCli(byFlags);
  const { members } = JSON.parse(status.stdout) as { members: { reachable: boolean }[] };
  assert.deepEqual(
    members.map(({ reachable }) => reachable),
    [true, true],
  );
});

for (const role of ROLES) {
  test(`the ${role} serves a certificate of its authority, and no other and none`, async () => {
    const stranger = await ThrowawayCa.create('Test services');
    const address = addressOf(cluster, role);
    assert.equal(await answerOf(role, address, tls), 'OK', "a service's own");
    assert.equal(
      await answerOf(role, address, await writeCertificate(folder, ours)),
      'OK',
      'another',
    );
    const refused: [string, TlsFiles | null][] = [
      ['a stranger of the same name', await writeCertificate(folder, stranger, ours)],
      ['one that has ended', await writeEndedCertificate(folder, ours)],
      ['no TLS', null],
    ];
    for (const [what, files] of refused) {
      assert.equal(await answerOf(role, address, files), 'NO_WORKER', what);
    }
  });
}

/** What a client of TLS gets that trusts our authority; null: an answer. */
async function healthOf(address: string, own: [] | [Buffer, Buffer]): Promise<status | null> {
  const authority = readFileSync(tls.caPath ?? '');
  const client = new Client(address, ChannelCredentials.createSsl(authority, ...own));
  const asIs = (bytes: Buffer): Buffer => bytes;
  const options = { deadline: Date.now() + 10_000 };
  try {
    return await new Promise((settle) => {
      const check = '/grpc.health.v1.Health/Check';
      client.makeUnaryRequest(check, asIs, asIs, Buffer.alloc(0), options, (error) => {
        settle(error?.code ?? null);
      });
    });
  } finally {
    client.close();
  }
}

for (const role of ROLES) {
  test(`the ${role} refuses a client that shows no certificate`, async () => {
    const address = addressOf(cluster, role);
    assert.equal(await healthOf(address, []), status.UNAVAILABLE);
    const own: [Buffer, Buffer] = [readFileSync(tls.keyPath), readFileSync(tls.certPath)];
    assert.equal(await healthOf(address, own), null, 'it is served with one');
  });
}

test('the command line says what a router with TLS wants', async () => {
  const stranger = await writeCertificate(folder, await ThrowawayCa.create('Stranger'), ours);
  for (const other of [{}, tlsEnvironment(stranger)]) {
    const { stderr } = await runCli(generateArgs(cluster.address), {
      environment: other,
      expectCode: 1,
    });
    assert.match(stderr, /^error: UNAVAILABLE: no router answers at .*LONGSHADOW_TLS_CERT/m);
    assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
  }
});

test('a part of the TLS settings, or a missing file, is one clear error', async () => {
  const key = join(folder, 'none.key');
  for (const [other, message] of [
    [{ LONGSHADOW_TLS_CERT: 'a.crt' }, /LONGSHADOW_TLS_CERT and LONGSHADOW_TLS_KEY/],
    [{ ...environment, LONGSHADOW_TLS_KEY: key }, /none\.key/],
  ] as const) {
    const { stderr } = await runCli(generateArgs(cluster.address), {
      environment: other,
      expectCode: 1,
    });
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
  }
});

test('no service starts where others reach it without mutual TLS', async () => {
  const listenOpenly = (role: string): NodeJS.ProcessEnv => ({
    [`${role.toUpperCase()}_LISTEN`]: '0.0.0.0:0',
    ...(role === 'router' ? { ROUTER_API_KEYS_FILE: '' } : {}),
  });
  const half = { ...environment, LONGSHADOW_TLS_CA: '' };
  for (const role of ROLES) {
    const message = role === 'router' ? /without API keys/ : /without mutual TLS/;
    const started = startTestCluster(half, {
      memberEnvironment: (of) => (of === role ? listenOpenly(role) : {}),
    });
    await assert.rejects(
      started.then(async (running) => running.stop()),
      { code: 'BAD_REQUEST', message },
      role,
    );
  }
});

interface UpLine {
  readonly router: string;
  readonly temporary: string;
  readonly members: readonly { readonly role: string; readonly address: string }[];
  readonly tls: TlsFiles;
}

test('up --tls makes certificates for itself, serves with them, and removes them', async () => {
  const child = spawn(
    process.execPath,
    [
      ...['--import', 'tsx', CLI_PATH, 'up', '--tls', '--json'],
      ...['--router-listen', '127.0.0.1:0', '--store', join(folder, 'up')],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...environment } },
  );
  const ended = once(child, 'exit');
  const [text] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const up = JSON.parse(text) as UpLine;
  try {
    const made = join(up.temporary, 'tls');
    assert.equal(statSync(made).mode & 0o777, 0o700);
    for (const name of readdirSync(made)) {
      assert.equal(statSync(join(made, name)).mode & 0o777, 0o600, name);
    }
    const { stdout } = await runCli([...generateArgs(up.router), ...flagsOf(up.tls)]);
    assert.ok(stdout.length > 1);
    for (const { role, address } of up.members) {
      if (role === 'redis') continue;
      const service = role as (typeof ROLES)[number];
      // The certificates that the environment names are not these.
      assert.equal(await answerOf(service, address, tls), 'NO_WORKER', role);
      const answer = role === 'router' ? 'OK' : 'NO_WORKER';
      assert.equal(await answerOf(service, address, up.tls), answer, `a client at the ${role}`);
    }
  } finally {
    child.kill('SIGINT');
    await ended;
  }
  await poll(
    () => existsSync(up.temporary),
    (isThere) => !isThere,
    15_000,
  );
});

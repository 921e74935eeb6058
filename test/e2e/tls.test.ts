import assert from '../support/assert.js';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MODEL, startTestCluster, type TestCluster } from '../support/cluster.js';
import { run, runCli } from '../support/run.js';

/** Null where openssl is missing: the tests are skipped with a line. */
let cluster: TestCluster | null = null;
let folder: string;
let environment: NodeJS.ProcessEnv;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  const { error } = spawnSync('openssl', ['version']);
  if (error !== undefined) return;
  environment = await makeCertificates('own');
  cluster = await startTestCluster(environment);
});
after(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A certificate that is its own authority, for 127.0.0.1; services show it to each other. */
async function makeCertificates(name: string): Promise<NodeJS.ProcessEnv> {
  const certificate = join(folder, `${name}.crt`);
  const key = join(folder, `${name}.key`);
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-days', '1', '-subj', '/CN=longshadow', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', key, '-out', certificate],
  ]);
  return {
    LONGSHADOW_TLS_CERT: certificate,
    LONGSHADOW_TLS_KEY: key,
    LONGSHADOW_TLS_CA: certificate,
  };
}

function testWithTls(name: string, body: (running: TestCluster) => Promise<void>): void {
  test(name, async (t) => {
    if (cluster === null) t.skip('openssl is missing: apt-get install -y openssl');
    else await body(cluster);
  });
}

const generateArgs = ({ address }: TestCluster): string[] => [
  ...['generate', '--router', address, '--model', MODEL, '--prompt', 'Call me Ishmael. '],
  ...['--max-new-tokens', '4', '--ignore-eos'],
];

testWithTls('with mutual TLS between all services, generate and status work', async (running) => {
  const { stdout } = await runCli(generateArgs(running), { environment });
  assert.ok(stdout.length > 1);
  const status = await runCli(['status', '--router', running.address, '--json'], { environment });
  const { members } = JSON.parse(status.stdout) as { members: { reachable: boolean }[] };
  assert.deepEqual(
    members.map(({ reachable }) => reachable),
    [true, true],
  );
});

testWithTls('who shows no certificate, or one of a stranger, is not served', async (running) => {
  const stranger = await makeCertificates('stranger');
  for (const other of [{}, { ...stranger, LONGSHADOW_TLS_CA: environment['LONGSHADOW_TLS_CA'] }]) {
    const { stderr } = await runCli(generateArgs(running), { environment: other, expectCode: 1 });
    assert.match(stderr, /^error: UNAVAILABLE: no router answers at .*LONGSHADOW_TLS_CERT/m);
    assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
  }
});

testWithTls(
  'a part of the TLS settings, or a missing file, is one clear error',
  async (running) => {
    const key = join(folder, 'none.key');
    for (const [other, message] of [
      [{ LONGSHADOW_TLS_CERT: 'a.crt' }, /LONGSHADOW_TLS_CERT and LONGSHADOW_TLS_KEY/],
      [{ ...environment, LONGSHADOW_TLS_KEY: key }, /none\.key/],
    ] as const) {
      const { stderr } = await runCli(generateArgs(running), { environment: other, expectCode: 1 });
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /^\s+at /m, 'no stack trace');
    }
  },
);

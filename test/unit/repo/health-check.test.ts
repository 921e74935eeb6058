import assert from '../../support/assert.js';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { ROOT, unlessThere } from './project-files.js';

const SCRIPTS = join(ROOT, 'deploy', 'scripts');

/** Exit status of the health check against an address. */
async function check(address: string, env: NodeJS.ProcessEnv = {}): Promise<number | null> {
  const child = spawn(process.execPath, [join(SCRIPTS, 'health-check.mjs'), address], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: 'ignore',
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  return code;
}

async function startHealthServer(
  credentials: ServerCredentials,
): Promise<{ server: Server; health: HealthImplementation; address: string }> {
  const server = new Server();
  const health = new HealthImplementation({ '': 'SERVING' });
  health.addToServer(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return { server, health, address: `127.0.0.1:${port}` };
}

test('health-check says whether a service serves', async () => {
  const { server, health, address } = await startHealthServer(ServerCredentials.createInsecure());
  assert.equal(await check(address), 0);
  health.setStatus('', 'NOT_SERVING');
  assert.equal(await check(address), 1);
  server.forceShutdown();
  assert.equal(await check(address), 1);
});

const skip = unlessThere('openssl');
let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-certificates-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

test(
  'made certificates carry mutual TLS, and a client without one is refused',
  { skip },
  async () => {
    execFileSync('bash', [join(SCRIPTS, 'make-certificates.sh'), folder, 'worker'], {
      stdio: 'ignore',
    });
    const pem = (name: string): Buffer => readFileSync(join(folder, name));
    const pair = { private_key: pem('tls.key'), cert_chain: pem('tls.crt') };
    const credentials = ServerCredentials.createSsl(pem('ca.crt'), [pair], true);
    const { server, address } = await startHealthServer(credentials);
    const tls = {
      LONGSHADOW_TLS_CERT: join(folder, 'tls.crt'),
      LONGSHADOW_TLS_KEY: join(folder, 'tls.key'),
      LONGSHADOW_TLS_CA: join(folder, 'ca.crt'),
    };
    assert.equal(await check(address, tls), 0);
    assert.equal(await check(address, { ...tls, LONGSHADOW_TLS_HEALTH_NAME: 'worker' }), 0);
    assert.equal(await check(address, { ...tls, LONGSHADOW_TLS_HEALTH_NAME: 'other' }), 1);
    assert.equal(await check(address), 1);
    server.forceShutdown();
  },
);

test('certificates that exist are left alone', { skip }, () => {
  const make = (): void => {
    execFileSync('bash', [join(SCRIPTS, 'make-certificates.sh'), folder], { stdio: 'ignore' });
  };
  make();
  const first = readFileSync(join(folder, 'tls.crt'), 'utf8');
  make();
  assert.equal(readFileSync(join(folder, 'tls.crt'), 'utf8'), first);
});

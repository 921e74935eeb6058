import assert from '../../../support/assert.js';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TlsFiles } from '../../../../services/platform/config/common-settings.js';
import { makeClient, unaryCall } from '../../../../services/platform/rpc/client.js';
import { startServer } from '../../../../services/platform/rpc/server.js';
import { hostRouter, log } from '../../../support/host-router.js';

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';
const folder = mkdtempSync(join(tmpdir(), 'ls-tls-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
}

/** A CA and one certificate for localhost that it signed, for server and client alike. */
function makeCertificate(name: string): TlsFiles {
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const ca = ['-keyout', `${name}-ca.key`, '-out', `${name}-ca.pem`, '-subj', `/CN=${name} CA`];
  openssl('req', '-x509', ...newKey, '-days', '1', ...ca);
  openssl(
    'req',
    ...newKey,
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
    '-subj',
    `/CN=${name}`,
  );
  writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  const signer = ['-CA', `${name}-ca.pem`, '-CAkey', `${name}-ca.key`, '-CAcreateserial'];
  const out = ['-out', `${name}.pem`, '-days', '1', '-extfile', 'names'];
  openssl('x509', '-req', '-in', `${name}.csr`, ...signer, ...out);
  const path = (file: string): string => join(folder, file);
  return {
    certPath: path(`${name}.pem`),
    keyPath: path(`${name}.key`),
    caPath: path(`${name}-ca.pem`),
  };
}

test(
  'mutual TLS serves a client of the same CA and nobody else, on any address',
  { skip },
  async () => {
    const ours = makeCertificate('ours');
    const theirs = makeCertificate('theirs');
    const services = [hostRouter({})];
    const server = await startServer({ address: '0.0.0.0:0', tls: ours, services, log });
    const address = server.address.replace('0.0.0.0', '127.0.0.1');
    const clients: { name: string; tls: TlsFiles | null; works: boolean }[] = [
      { name: 'ours', tls: ours, works: true },
      {
        name: 'a certificate of another CA',
        tls: { ...theirs, caPath: ours.caPath },
        works: false,
      },
      {
        name: 'a client that trusts another CA',
        tls: { ...ours, caPath: theirs.caPath },
        works: false,
      },
      { name: 'no TLS', tls: null, works: false },
    ];
    for (const { name, tls, works } of clients) {
      const client = makeClient('router', address, tls);
      const answer = unaryCall(client, 'getStatus', {}, { timeoutMs: 3_000 });
      if (works) assert.ok(await answer, name);
      else await assert.rejects(answer, { name: 'ServingError' }, name);
      client.close();
    }
    await server.close(0);
  },
);

test('TLS without a CA does not do on an address that others reach', { skip }, async () => {
  const tls = { ...makeCertificate('half'), caPath: null };
  const spec = { address: '0.0.0.0:0', tls, services: [hostRouter({})], log };
  await assert.rejects(startServer(spec), { code: 'BAD_REQUEST', message: /LONGSHADOW_TLS_CA/ });
});

test('a key that does not match its certificate is a clear error', { skip }, async () => {
  const one = makeCertificate('one');
  const tls = { ...one, keyPath: makeCertificate('two').keyPath };
  const spec = { address: '127.0.0.1:0', tls, services: [hostRouter({})], log };
  await assert.rejects(startServer(spec), { name: 'ServingError', code: 'BAD_REQUEST' });
});

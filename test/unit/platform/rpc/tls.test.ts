import assert from '../../../support/assert.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ThrowawayCa } from '../../../../services/cli/cluster/throwaway-ca.js';
import type { TlsFiles } from '../../../../services/platform/config/common-settings.js';
import { makeClient, unaryCall } from '../../../../services/platform/rpc/client.js';
import { startServer } from '../../../../services/platform/rpc/server.js';
import {
  writeCertificate,
  writeEndedCertificate,
  writeLeaf,
} from '../../../support/certificates.js';
import { hostRouter, log } from '../../../support/host-router.js';

const folder = mkdtempSync(join(tmpdir(), 'ls-tls-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

const ours = await ThrowawayCa.create('ours');
const theirs = await ThrowawayCa.create('theirs');

/** What a client gets of a server: OK, or the code of its refusal. */
async function answerTo(tls: TlsFiles | null, address: string): Promise<string> {
  const client = makeClient('router', address, tls);
  try {
    await unaryCall(client, 'getStatus', {}, { timeoutMs: 3_000, unavailable: 'NO_WORKER' });
    return 'OK';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    client.close();
  }
}

test('mutual TLS serves a client of the same authority and nobody else, on any address', async () => {
  const tls = await writeCertificate(folder, ours);
  const server = await startServer({
    ...{ address: '0.0.0.0:0', tls, log },
    services: [hostRouter({})],
  });
  const address = server.address.replace('0.0.0.0', '127.0.0.1');
  try {
    assert.equal(await answerTo(tls, address), 'OK', "the server's own certificate");
    assert.equal(
      await answerTo(await writeCertificate(folder, ours), address),
      'OK',
      'a second one',
    );
    assert.equal(await answerTo(tls, address.replace('127.0.0.1', 'localhost')), 'OK', 'by name');
    const refused: [string, TlsFiles | null][] = [
      ['a certificate of another authority', await writeCertificate(folder, theirs, ours)],
      ['a client that trusts another authority', await writeCertificate(folder, ours, theirs)],
      ['no TLS', null],
      [
        'a namesake of the authority',
        await writeCertificate(folder, await ThrowawayCa.create('ours'), ours),
      ],
    ];
    for (const [name, other] of refused) {
      assert.equal(await answerTo(other, address), 'NO_WORKER', name);
    }
  } finally {
    await server.close(0);
  }
});

test('a certificate of the right authority that has ended is refused, by servers and by clients', async () => {
  const ended = await writeEndedCertificate(folder, ours);
  const good = await writeCertificate(folder, ours);
  for (const [ofServer, ofClient, answer] of [
    [good, good, 'OK'],
    [good, ended, 'NO_WORKER'],
    [ended, good, 'NO_WORKER'],
  ] as const) {
    const services = [hostRouter({})];
    const server = await startServer({ address: '127.0.0.1:0', tls: ofServer, services, log });
    assert.equal(await answerTo(ofClient, server.address), answer);
    await server.close(0);
  }
});

test("a client's certificate is no server's: it may not be shown for the other use", async () => {
  const files = writeLeaf(folder, await ours.leaf('client', ['clientAuth']), ours);
  const services = [hostRouter({})];
  const server = await startServer({ address: '127.0.0.1:0', tls: files, services, log });
  assert.equal(await answerTo(await writeCertificate(folder, ours), server.address), 'NO_WORKER');
  await server.close(0);
});

test('TLS without an authority does not do on an address that others reach', async () => {
  const tls = { ...(await writeCertificate(folder, ours)), caPath: null };
  for (const address of ['0.0.0.0:0', '[::]:0', '192.0.2.1:0']) {
    for (const files of [tls, null]) {
      const spec = { address, tls: files, services: [hostRouter({})], log };
      const message = /without mutual TLS: set LONGSHADOW_TLS_CERT, .*LONGSHADOW_TLS_CA/;
      await assert.rejects(startServer(spec), { code: 'BAD_REQUEST', message });
    }
  }
});

test('a key that does not match its certificate is a clear error', async () => {
  const { keyPath } = await writeCertificate(folder, ours);
  const tls = { ...(await writeCertificate(folder, ours)), keyPath };
  const spec = { address: '127.0.0.1:0', tls, services: [hostRouter({})], log };
  await assert.rejects(startServer(spec), {
    code: 'BAD_REQUEST',
    message: /TLS files do not work.*LONGSHADOW_TLS_CERT/,
  });
});

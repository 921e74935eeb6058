import assert from '../../support/assert.js';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  ThrowawayCa,
  writeClusterCertificates,
} from '../../../services/cli/cluster/throwaway-ca.js';

const folder = mkdtempSync(join(tmpdir(), 'ls-ca-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('a leaf names this host, is signed by its authority, and is good for a day', async () => {
  const now = new Date('2031-05-06T07:08:09Z');
  const authority = await ThrowawayCa.create('An authority', now);
  const { certificate, key } = await authority.leaf('a leaf', ['serverAuth', 'clientAuth'], now);
  const signer = new X509Certificate(authority.certificate);
  const leaf = new X509Certificate(certificate);
  assert.ok(signer.ca && !leaf.ca);
  assert.ok(leaf.verify(signer.publicKey) && leaf.checkIssued(signer));
  assert.ok(
    !leaf.verify(
      new X509Certificate((await ThrowawayCa.create('An authority')).certificate).publicKey,
    ),
  );
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
  assert.equal(leaf.checkIP('127.0.0.1'), '127.0.0.1');
  assert.equal(leaf.checkHost('localhost'), 'localhost');
  assert.equal(leaf.checkHost('example.org'), undefined);
  assert.equal(leaf.subject, 'CN=a leaf');
  assert.equal(leaf.issuer, 'CN=An authority');
  assert.equal(Date.parse(leaf.validTo) - now.getTime(), 86_400_000);
  assert.ok(Date.parse(leaf.validFrom) <= now.getTime());
  assert.equal(leaf.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
});

test('serial numbers differ', async () => {
  const authority = await ThrowawayCa.create('An authority');
  const serials = new Set<string>();
  for (let made = 0; made < 20; made++) {
    const { certificate } = await authority.leaf('x', ['clientAuth']);
    serials.add(new X509Certificate(certificate).serialNumber);
  }
  assert.equal(serials.size, 20);
});

test("a cluster's files are its owner's alone, and hold no authority's key", async () => {
  const before = process.umask(0);
  try {
    const made = await writeClusterCertificates(join(folder, 'tls'));
    assert.equal(statSync(join(folder, 'tls')).mode & 0o777, 0o700);
    const names = readdirSync(join(folder, 'tls'));
    for (const name of names) assert.equal(statSync(join(folder, 'tls', name)).mode & 0o777, 0o600);
    assert.deepEqual(names.filter((name) => name.endsWith('.key')).sort(), [
      'client.key',
      'decode.key',
      'router.key',
      'worker.key',
    ]);
    const client = new X509Certificate(readFileSync(made.client.certPath));
    const trusts = (caPath: string | null): boolean =>
      (
        readFileSync(caPath ?? '', 'utf8').match(/-----BEGIN[^]*?-----END CERTIFICATE-----/g) ?? []
      ).some((pem) => client.verify(new X509Certificate(pem).publicKey));
    assert.deepEqual(
      [made.router, made.worker, made.decode].map(({ caPath }) => trusts(caPath)),
      [true, false, false],
      "the router alone takes a client's certificate",
    );
    await assert.rejects(writeClusterCertificates(join(folder, 'tls')), /EEXIST/);
  } finally {
    process.umask(before);
  }
});

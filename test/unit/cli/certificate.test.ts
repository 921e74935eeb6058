import assert from '../../support/assert.js';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { signCertificate } from '../../../services/cli/cluster/certificate.js';
import * as der from '../../../services/cli/cluster/der.js';
import {
  ThrowawayCa,
  writeClusterCertificates,
} from '../../../services/cli/cluster/throwaway-ca.js';

const folder = mkdtempSync(join(tmpdir(), 'ls-ca-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('elements are encoded as X.690 says', () => {
  const cases: [Buffer, string][] = [
    [der.unsignedInteger(Buffer.of(2)), '020102'],
    [der.unsignedInteger(Buffer.of(0x80)), '02020080'],
    [der.boolean(true), '0101ff'],
    [der.bitString(Buffer.of(0x80), 7), '03020780'],
    [der.objectIdentifier('1.2.840.10045.4.3.2'), '06082a8648ce3d040302'],
    [der.objectIdentifier('2.5.29.17'), '0603551d11'],
    [der.utf8String('é'), '0c02c3a9'],
    [der.time(new Date('2049-12-31T23:59:59.999Z')), `170d${hex('491231235959Z')}`],
    [der.time(new Date('2050-01-01T00:00:00Z')), `180f${hex('20500101000000Z')}`],
    [der.explicit(0, der.unsignedInteger(Buffer.of(2))), 'a003020102'],
    [der.implicit(7, Buffer.of(127, 0, 0, 1)), '87047f000001'],
    [der.sequence(der.octetString(Buffer.alloc(126))).subarray(0, 6), '308180047e00'],
    [der.octetString(Buffer.alloc(0x80)).subarray(0, 3), '048180'],
    [der.octetString(Buffer.alloc(0x1234)).subarray(0, 4), '04821234'],
  ];
  for (const [bytes, expected] of cases)
    assert.equal(bytes.toString('hex').slice(0, expected.length), expected);
});

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}

test('a leaf names this host, is signed by its authority, and is good for a day', () => {
  const now = new Date('2031-05-06T07:08:09Z');
  const authority = new ThrowawayCa('An authority', now);
  const { certificate, key } = authority.leaf('a leaf', ['serverAuth', 'clientAuth'], now);
  const signer = new X509Certificate(authority.certificate);
  const leaf = new X509Certificate(certificate);
  assert.ok(signer.ca && !leaf.ca);
  assert.ok(leaf.verify(signer.publicKey) && leaf.checkIssued(signer));
  assert.ok(
    !leaf.verify(new X509Certificate(new ThrowawayCa('An authority').certificate).publicKey),
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

test('serial numbers differ, and are positive', () => {
  const authority = new ThrowawayCa('An authority');
  const serials = Array.from(
    { length: 40 },
    () => new X509Certificate(authority.leaf('x', ['clientAuth']).certificate).serialNumber,
  );
  assert.equal(new Set(serials).size, 40);
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/);
});

test('a certificate that lives past 2050 can be read', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const notAfter = new Date('2101-02-03T04:05:06Z');
  const issuer = { name: 'x', publicKey, key: privateKey };
  const spec = {
    subject: 'x',
    publicKey,
    issuer,
    use: 'authority',
    notBefore: new Date(),
  } as const;
  const { validTo } = new X509Certificate(signCertificate({ ...spec, notAfter }));
  assert.equal(Date.parse(validTo), notAfter.getTime());
});

test("a cluster's files are its owner's alone, and hold no authority's key", () => {
  const before = process.umask(0);
  try {
    const made = writeClusterCertificates(join(folder, 'tls'));
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
    assert.throws(() => writeClusterCertificates(join(folder, 'tls')), /EEXIST/);
  } finally {
    process.umask(before);
  }
});

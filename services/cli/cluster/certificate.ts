import { webcrypto } from 'node:crypto';
import { isIPv4 } from 'node:net';
import type * as X509 from '@peculiar/x509';

/* Certificates (RFC 5280) with keys on P-256, signed by ECDSA with SHA-256. */

const KEYS = { name: 'ECDSA', namedCurve: 'P-256' } as const;

export type KeyPair = webcrypto.CryptoKeyPair;
export type Usage = 'serverAuth' | 'clientAuth';

export interface CertificateSpec {
  /** Common name of whose key it is. */
  readonly subject: string;
  readonly publicKey: webcrypto.CryptoKey;
  /** Common name and keys of who signs. */
  readonly issuer: { readonly name: string; readonly keys: KeyPair };
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** 'authority': may sign others, and nothing else. */
  readonly use: 'authority' | readonly Usage[];
  /** Host names and IPv4 addresses that a server of it may be called by. */
  readonly hosts?: readonly string[];
}

/** Keys that can be written: the private one of a leaf goes into a file. */
export async function newKeys(): Promise<KeyPair> {
  return webcrypto.subtle.generateKey(KEYS, true, ['sign', 'verify']);
}

/** Signs a certificate. @returns PEM */
export async function signCertificate(spec: CertificateSpec): Promise<string> {
  const { X509CertificateGenerator } = await loadX509();
  const { subject, publicKey, issuer, notBefore, notAfter } = spec;
  const certificate = await X509CertificateGenerator.create({
    subject: [{ CN: [subject] }],
    issuer: [{ CN: [issuer.name] }],
    notBefore,
    notAfter,
    publicKey,
    signingKey: issuer.keys.privateKey,
    signingAlgorithm: { name: KEYS.name, hash: 'SHA-256' },
    extensions: await extensions(spec),
  });
  return `${certificate.toString('pem')}\n`;
}

async function extensions({
  publicKey,
  issuer,
  use,
  hosts = [],
}: CertificateSpec): Promise<X509.Extension[]> {
  const x509 = await loadX509();
  const { KeyUsageFlags } = x509;
  const isAuthority = use === 'authority';
  const keyUsage = isAuthority ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature;
  const usages = isAuthority ? [] : use.map((usage) => x509.ExtendedKeyUsage[usage]);
  return [
    new x509.BasicConstraintsExtension(isAuthority, undefined, true),
    new x509.KeyUsagesExtension(keyUsage, true),
    ...(usages.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension(usages)]),
    ...(hosts.length === 0
      ? []
      : [new x509.SubjectAlternativeNameExtension(hosts.map(generalName))]),
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
    await x509.AuthorityKeyIdentifierExtension.create(issuer.keys.publicKey),
  ];
}

function generalName(host: string): X509.JsonGeneralName {
  return { type: isIPv4(host) ? 'ip' : 'dns', value: host };
}

/** Takes a third of a second, which commands that make no certificate need not wait. */
async function loadX509(): Promise<typeof X509> {
  await import('reflect-metadata'); // what the other one defines itself by
  const x509 = await import('@peculiar/x509');
  x509.cryptoProvider.set(webcrypto);
  return x509;
}

import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIPv4 } from 'node:net';
import * as der from './der.js';

/* Certificates (RFC 5280) with keys on P-256, signed by ECDSA with SHA-256. */

const OID = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

const VERSION_3 = 2;
const SIGNATURE = der.sequence(der.objectIdentifier(OID.ecdsaWithSha256));

export type Usage = 'serverAuth' | 'clientAuth';

export interface CertificateSpec {
  /** Common name of whose key it is. */
  readonly subject: string;
  readonly publicKey: KeyObject;
  /** Common name and keys of who signs. */
  readonly issuer: {
    readonly name: string;
    readonly publicKey: KeyObject;
    readonly key: KeyObject;
  };
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** 'authority': may sign others, and nothing else. */
  readonly use: 'authority' | readonly Usage[];
  /** Host names and IPv4 addresses that a server of it may be called by. */
  readonly hosts?: readonly string[];
}

/** Signs a certificate. @returns PEM */
export function signCertificate(spec: CertificateSpec): string {
  const facts = der.sequence(
    der.explicit(0, der.unsignedInteger(Buffer.from([VERSION_3]))),
    der.unsignedInteger(serialNumber()),
    SIGNATURE,
    name(spec.issuer.name),
    der.sequence(der.time(spec.notBefore), der.time(spec.notAfter)),
    name(spec.subject),
    publicKeyInfo(spec.publicKey),
    der.explicit(3, der.sequence(...extensions(spec))),
  );
  const signature = sign('sha256', facts, spec.issuer.key);
  return pem(der.sequence(facts, SIGNATURE, der.bitString(signature)));
}

/** 16 random bytes that begin with neither 0 nor a sign. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f);
  return bytes;
}

function name(commonName: string): Buffer {
  const attribute = der.sequence(der.objectIdentifier(OID.commonName), der.utf8String(commonName));
  return der.sequence(der.set(attribute));
}

function publicKeyInfo(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** Any number that is the same for the same key will do. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  return createHash('sha256').update(publicKeyInfo(publicKey)).digest().subarray(0, 20);
}

function extensions({ publicKey, issuer, use, hosts = [] }: CertificateSpec): Buffer[] {
  const isAuthority = use === 'authority';
  const usages = isAuthority ? [] : use.map((usage) => der.objectIdentifier(OID[usage]));
  // Bits 5 and 6: keyCertSign, cRLSign. Bit 0: digitalSignature.
  const keyUsage = isAuthority
    ? der.bitString(Buffer.of(0x06), 1)
    : der.bitString(Buffer.of(0x80), 7);
  const authority = der.sequence(der.implicit(0, keyIdentifier(issuer.publicKey)));
  return [
    critical(OID.basicConstraints, der.sequence(...(isAuthority ? [der.boolean(true)] : []))),
    critical(OID.keyUsage, keyUsage),
    ...(usages.length === 0 ? [] : [extension(OID.extendedKeyUsage, der.sequence(...usages))]),
    ...(hosts.length === 0
      ? []
      : [extension(OID.subjectAltName, der.sequence(...hosts.map(generalName)))]),
    extension(OID.subjectKeyIdentifier, der.octetString(keyIdentifier(publicKey))),
    extension(OID.authorityKeyIdentifier, authority),
  ];
}

function critical(oid: string, value: Buffer): Buffer {
  return der.sequence(der.objectIdentifier(oid), der.boolean(true), der.octetString(value));
}

function extension(oid: string, value: Buffer): Buffer {
  return der.sequence(der.objectIdentifier(oid), der.octetString(value));
}

/** Tag 7: iPAddress; tag 2: dNSName. */
function generalName(host: string): Buffer {
  return isIPv4(host)
    ? der.implicit(7, Buffer.from(host.split('.').map(Number)))
    : der.implicit(2, Buffer.from(host, 'latin1'));
}

function pem(bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}

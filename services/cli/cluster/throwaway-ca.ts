import { KeyObject } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TlsFiles } from '../../platform/config/common-settings.js';
import { type KeyPair, newKeys, signCertificate, type Usage } from './certificate.js';

/** Clocks that stand a little apart still take a new certificate. */
const CLOCK_SKEW_MS = 300_000;
const DAY_MS = 86_400_000;
/** Where a local cluster listens. */
const HOSTS = ['127.0.0.1', 'localhost'];

/** A certificate and its key, PEM. */
export interface Leaf {
  readonly certificate: string;
  readonly key: string;
}

/** An authority that lives in memory: its key is never written, and gone with this object. */
export class ThrowawayCa {
  private constructor(
    private readonly name: string,
    private readonly keys: KeyPair,
    /** PEM. */
    readonly certificate: string,
  ) {}

  static async create(name: string, made = new Date()): Promise<ThrowawayCa> {
    const keys = await newKeys();
    const certificate = await signCertificate({
      subject: name,
      publicKey: keys.publicKey,
      issuer: { name, keys },
      use: 'authority',
      ...dayFrom(made),
    });
    return new ThrowawayCa(name, keys, certificate);
  }

  /** A certificate for this host, good for a day. */
  async leaf(subject: string, use: readonly Usage[], made = new Date()): Promise<Leaf> {
    const { publicKey, privateKey } = await newKeys();
    const certificate = await signCertificate({
      subject,
      publicKey,
      issuer: { name: this.name, keys: this.keys },
      use,
      ...(use.includes('serverAuth') ? { hosts: HOSTS } : {}),
      ...dayFrom(made),
    });
    const key = KeyObject.from(privateKey).export({ type: 'pkcs8', format: 'pem' }).toString();
    return { certificate, key };
  }
}

/** Certificates of a local cluster: one a service, and one for its clients. */
export interface ClusterCertificates {
  readonly router: TlsFiles;
  readonly worker: TlsFiles;
  readonly decode: TlsFiles;
  readonly client: TlsFiles;
}

/**
 * Makes the certificates of a local cluster in a new folder (0700, keys 0600). Clients have an
 * authority of their own, which the router alone knows: so no client's certificate opens a worker
 * or a decode, where no API key is asked for.
 */
export async function writeClusterCertificates(folder: string): Promise<ClusterCertificates> {
  mkdirSync(folder, { mode: 0o700 });
  const write = (file: string, text: string): string => {
    const path = join(folder, file);
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
    return path;
  };
  const services = await ThrowawayCa.create('Longshadow services');
  const clients = await ThrowawayCa.create('Longshadow clients');
  const caPath = write('services-ca.crt', services.certificate);
  const routerCaPath = write('router-ca.crt', services.certificate + clients.certificate);
  const files = (name: string, leaf: Leaf, ca: string): TlsFiles => ({
    certPath: write(`${name}.crt`, leaf.certificate),
    keyPath: write(`${name}.key`, leaf.key),
    caPath: ca,
  });
  const service = async (role: string, ca: string): Promise<TlsFiles> =>
    files(role, await services.leaf(`longshadow ${role}`, ['serverAuth', 'clientAuth']), ca);
  return {
    router: await service('router', routerCaPath),
    worker: await service('worker', caPath),
    decode: await service('decode', caPath),
    client: files('client', await clients.leaf('longshadow client', ['clientAuth']), caPath),
  };
}

/** The variables by which a process finds its files. */
export function tlsEnvironment(files: TlsFiles): Record<string, string> {
  return {
    LONGSHADOW_TLS_CERT: files.certPath,
    LONGSHADOW_TLS_KEY: files.keyPath,
    LONGSHADOW_TLS_CA: files.caPath ?? '',
  };
}

function dayFrom(made: Date): { notBefore: Date; notAfter: Date } {
  const ms = made.getTime();
  return { notBefore: new Date(ms - CLOCK_SKEW_MS), notAfter: new Date(ms + DAY_MS) };
}

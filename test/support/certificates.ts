import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Leaf, ThrowawayCa } from '../../services/cli/cluster/throwaway-ca.js';
import type { TlsFiles } from '../../services/platform/config/common-settings.js';

/** When a certificate was made that was good for a day. */
const TWO_DAYS_AGO = new Date(Date.now() - 2 * 86_400_000);

/** A new certificate of `signer`, for this host, as files below `folder`; its holder trusts `trusted`. */
export async function writeCertificate(
  folder: string,
  signer: ThrowawayCa,
  trusted: ThrowawayCa = signer,
): Promise<TlsFiles> {
  return writeLeaf(folder, await signer.leaf('test', ['serverAuth', 'clientAuth']), trusted);
}

/** As writeCertificate, but the certificate's time is over. */
export async function writeEndedCertificate(
  folder: string,
  signer: ThrowawayCa,
): Promise<TlsFiles> {
  const leaf = await signer.leaf('test', ['serverAuth', 'clientAuth'], TWO_DAYS_AGO);
  return writeLeaf(folder, leaf, signer);
}

export function writeLeaf(folder: string, leaf: Leaf, trusted: ThrowawayCa): TlsFiles {
  const own = mkdtempSync(join(folder, 'certificate-'));
  const write = (name: string, text: string): string => {
    const path = join(own, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    certPath: write('own.crt', leaf.certificate),
    keyPath: write('own.key', leaf.key),
    caPath: write('ca.crt', trusted.certificate),
  };
}

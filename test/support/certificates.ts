import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ThrowawayCa } from '../../services/cli/cluster/throwaway-ca.js';
import type { TlsFiles } from '../../services/platform/config/common-settings.js';

/** An authority whose certificates, for this host, were made at a time of the test's choice. */
export function makeAuthority(name: string, made = new Date()): ThrowawayCa {
  return new ThrowawayCa(name, made);
}

/** When a certificate was made that is good for a day and has ended. */
export const TWO_DAYS_AGO = new Date(Date.now() - 2 * 86_400_000);

/** A new certificate of `signer` as files below `folder`, whose holder trusts `trusted`. */
export function writeCertificate(
  folder: string,
  signer: ThrowawayCa,
  trusted: ThrowawayCa = signer,
): TlsFiles {
  const own = mkdtempSync(join(folder, 'certificate-'));
  const { certificate, key } = signer.leaf('test', ['serverAuth', 'clientAuth']);
  const write = (name: string, text: string): string => {
    const path = join(own, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    certPath: write('own.crt', certificate),
    keyPath: write('own.key', key),
    caPath: write('ca.crt', trusted.certificate),
  };
}

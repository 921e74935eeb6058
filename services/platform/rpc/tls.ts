import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import type { TlsFiles } from '../config/common-settings.js';

/** Credentials of a server; with a CA every client must show a certificate that it signed. */
export function serverCredentials(tls: TlsFiles | null): ServerCredentials {
  if (tls === null) return ServerCredentials.createInsecure();
  const { cert, key, ca } = readTlsFiles(tls);
  return guard(() => {
    // grpc-js looks at them only when it listens, and then blames the address.
    createSecureContext({ cert, key, ...(ca === null ? {} : { ca }) });
    return ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: cert }], ca !== null);
  });
}

/** Credentials of a client; it shows its own certificate, and trusts the CA only where one is given. */
export function clientCredentials(tls: TlsFiles | null): ChannelCredentials {
  if (tls === null) return ChannelCredentials.createInsecure();
  const { cert, key, ca } = readTlsFiles(tls);
  return guard(() => ChannelCredentials.createSsl(ca, key, cert));
}

function readTlsFiles(tls: TlsFiles): { cert: Buffer; key: Buffer; ca: Buffer | null } {
  return {
    cert: readPem('LONGSHADOW_TLS_CERT', tls.certPath),
    key: readPem('LONGSHADOW_TLS_KEY', tls.keyPath),
    ca: tls.caPath === null ? null : readPem('LONGSHADOW_TLS_CA', tls.caPath),
  };
}

function readPem(variable: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new ServingError(
      'BAD_REQUEST',
      `${variable}: cannot read ${path}; name a readable PEM file`,
      {},
      { cause: error },
    );
  }
}

/** Node throws here on a certificate that is no PEM or a key that does not match. */
function guard<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServingError(
      'BAD_REQUEST',
      `TLS files do not work: ${reason}; check LONGSHADOW_TLS_CERT, _KEY and _CA`,
      {},
      { cause: error },
    );
  }
}

import { withoutPassword, redisOptions } from '../redis-url.js';
import { parseListenAddress } from '../rpc/listen-address.js';
import { optionalTextSetting, textSetting } from './setting-kinds.js';
import type { Setting } from './settings.js';

/** Paths of PEM files. `caPath` makes TLS mutual: each side must show a certificate of that CA. */
export interface TlsFiles {
  readonly certPath: string;
  readonly keyPath: string;
  readonly caPath: string | null;
}

/** `host:port` or `unix:/path`, checked. Port 0: any free one. */
export function addressSetting(common: {
  readonly env: string;
  readonly default: string;
  readonly description: string;
}): Setting<string> {
  const setting = textSetting(common);
  return {
    ...setting,
    parse: (text) => {
      parseListenAddress(text);
      return text;
    },
  };
}

/** REDIS_URL, checked; its password is never printed. */
export function redisUrlSetting(): Setting<string> {
  const setting = textSetting({
    env: 'REDIS_URL',
    description: 'Redis of the cluster: redis://host:port/db, rediss://... or unix:///path/to.sock',
    hide: withoutPassword,
  });
  return {
    ...setting,
    parse: (text) => {
      redisOptions(text);
      return text;
    },
  };
}

/** The three TLS variables; spread them into a service's settings and give the values to tlsFiles(). */
export const TLS_SETTINGS = {
  tlsCertPath: optionalTextSetting({
    env: 'LONGSHADOW_TLS_CERT',
    description: 'PEM certificate chain of this process',
  }),
  tlsKeyPath: optionalTextSetting({
    env: 'LONGSHADOW_TLS_KEY',
    description: 'PEM private key of this process',
  }),
  tlsCaPath: optionalTextSetting({
    env: 'LONGSHADOW_TLS_CA',
    description: 'PEM certificates that peers must be signed by (mutual TLS)',
  }),
};

/**
 * The TLS files that the settings name, or null when none is set.
 * @throws Error when only a part is set
 */
export function tlsFiles(settings: {
  readonly tlsCertPath: string | null;
  readonly tlsKeyPath: string | null;
  readonly tlsCaPath: string | null;
}): TlsFiles | null {
  const { tlsCertPath: certPath, tlsKeyPath: keyPath, tlsCaPath: caPath } = settings;
  if (certPath === null && keyPath === null && caPath === null) return null;
  if (certPath === null || keyPath === null) {
    throw new Error(
      'LONGSHADOW_TLS_CERT and LONGSHADOW_TLS_KEY (--tls-cert, --tls-key) must be set together',
    );
  }
  return { certPath, keyPath, caPath };
}

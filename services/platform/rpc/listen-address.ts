import { isIP } from 'node:net';

/** Where a server listens: a TCP host and port, or the path of a unix socket. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/**
 * Reads `host:port`, `[ipv6]:port` or `unix:/path`.
 * @throws Error that says what is wanted
 */
export function parseListenAddress(address: string): ListenAddress {
  const [, path] = /^unix:(?:\/\/)?(\/.+)$/.exec(address) ?? [];
  if (path !== undefined) return { kind: 'unix', path };
  const [, bracketed, plain, digits] =
    /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  const badBrackets = bracketed !== undefined && isIP(bracketed) !== 6;
  if (host === undefined || !(port <= 65_535) || badBrackets) {
    throw new Error('want host:port, [ipv6]:port or unix:/path');
  }
  return { kind: 'tcp', host, port };
}

/** `host:port` with brackets where IPv6 needs them. */
export function formatHostPort(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${String(port)}` : `${host}:${String(port)}`;
}

/** True for what only this host can reach: 127.0.0.0/8, ::1, localhost, unix sockets. */
export function isLoopback(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const host = address.host.toLowerCase();
  if (host === 'localhost' || host === '::1' || host === '0:0:0:0:0:0:0:1') return true;
  return isIP(host) === 4 && host.startsWith('127.');
}

import { optionalTextSetting } from '../platform/config/setting-kinds.js';
import type { Setting } from '../platform/config/settings.js';

/**
 * `name=value,name=value`.
 * @param what a value is, for errors
 * @throws Error saying what is wanted
 */
export function parseNamedValues(text: string, what: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const entry of text.split(',')) {
    const at = entry.indexOf('=');
    const name = entry.slice(0, Math.max(at, 0)).trim();
    const value = entry.slice(at + 1).trim();
    if (name === '' || value === '') throw new Error(`want name=${what}[,name=${what}]`);
    if (values.has(name)) throw new Error(`model ${name} is named twice`);
    values.set(name, value);
  }
  return values;
}

/** A value for some of the models; none unless it is set. */
export function perModelSetting<T>(
  common: { readonly env: string; readonly description: string },
  what: string,
  parseValue: (text: string) => T,
): Setting<ReadonlyMap<string, T>> {
  return {
    ...optionalTextSetting(common),
    parse: (text) => {
      const named = text === '' ? new Map<string, string>() : parseNamedValues(text, what);
      return new Map([...named].map(([name, value]) => [name, parseValue(value)]));
    },
  };
}

import type { Setting } from './settings.js';

/** What each kind of setting needs besides its parser. */
interface Common<T> {
  readonly env: string;
  readonly description: string;
  /** Absent: the variable must be set. */
  readonly default?: T;
  readonly unit?: string;
  readonly hide?: (text: string) => string;
}

function setting<T>(
  common: Common<T>,
  toText: (value: T) => string,
  parse: (text: string) => T,
): Setting<T> {
  return {
    env: common.env,
    defaultText: common.default === undefined ? null : toText(common.default),
    unit: common.unit ?? '',
    description: common.description,
    parse,
    ...(common.hide === undefined ? {} : { hide: common.hide }),
  };
}

/** Any text that is not empty. */
export function textSetting(common: Common<string>): Setting<string> {
  return setting(common, String, (text) => text);
}

/** Text, or null when the variable is not set. */
export function optionalTextSetting(
  common: Omit<Common<string>, 'default'>,
): Setting<string | null> {
  return setting<string | null>(
    { ...common, default: null },
    (value) => value ?? '',
    (text) => (text === '' ? null : text),
  );
}

/** A whole number in [min, max]; min 0 and no maximum unless given. */
export function integerSetting(
  common: Common<number> & { readonly min?: number; readonly max?: number },
): Setting<number> {
  const min = common.min ?? 0;
  const max = common.max ?? Number.MAX_SAFE_INTEGER;
  return setting(common, String, (text) => {
    const value = Number(text);
    if (!/^[+-]?\d+$/.test(text.trim()) || !(value >= min && value <= max)) {
      const limit =
        max === Number.MAX_SAFE_INTEGER
          ? `of at least ${String(min)}`
          : `from ${String(min)} to ${String(max)}`;
      throw new Error(`want a whole number ${limit}`);
    }
    return value;
  });
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Bytes: a whole number, or a number with KiB, MiB, GiB or TiB. Rounded down to a byte. */
export function bytesSetting(
  common: Omit<Common<number>, 'unit'> & { readonly min?: number },
): Setting<number> {
  const min = common.min ?? 0;
  return setting({ ...common, unit: 'bytes' }, String, (text) => {
    const [, digits, suffix] = /^(\d+(?:\.\d+)?)\s*([KMGT]iB)?$/.exec(text.trim()) ?? [];
    const value = Math.floor(Number(digits) * (BYTE_UNITS[suffix ?? ''] ?? Number.NaN));
    if (!(value >= min && value <= Number.MAX_SAFE_INTEGER)) {
      throw new Error(`want bytes such as 1048576 or 64GiB, at least ${String(min)}`);
    }
    return value;
  });
}

/** One of a closed list. */
export function choiceSetting<T extends string>(
  common: Common<T> & { readonly choices: readonly T[] },
): Setting<T> {
  return setting(common, String, (text) => {
    const found = common.choices.find((choice) => choice === text);
    if (found === undefined) throw new Error(`want one of ${common.choices.join(', ')}`);
    return found;
  });
}

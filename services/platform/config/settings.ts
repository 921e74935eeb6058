/*
 * Settings of a service: each variable once, with its environment name, default, unit, description
 * and parser. docs/configuration.md and --check-config come from the same list.
 */

export type Environment = Readonly<Record<string, string | undefined>>;

/** One variable. `parse` throws an Error that says what is wanted. */
export interface Setting<T> {
  readonly env: string;
  /** Text form of the default; null when the variable must be set. */
  readonly defaultText: string | null;
  /** 'ms', 'bytes', 'tokens', ...; '' when there is none. */
  readonly unit: string;
  readonly description: string;
  readonly parse: (text: string) => T;
  /** Hides what must not be printed; absent when nothing is secret. */
  readonly hide?: (text: string) => string;
}

export type SettingFields = Readonly<Record<string, Setting<unknown>>>;

export interface SettingsSpec<F extends SettingFields = SettingFields> {
  readonly service: string;
  readonly fields: F;
}

/** The values of a spec, typed by its parsers. */
export type SettingsOf<S> =
  S extends SettingsSpec<infer F>
    ? { readonly [K in keyof F]: F[K] extends Setting<infer T> ? T : never }
    : never;

export function defineSettings<F extends SettingFields>(
  service: string,
  fields: F,
): SettingsSpec<F> {
  const names = Object.values(fields).map((field) => field.env);
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) throw new Error(`${service}: setting ${twice} is defined twice`);
  return { service, fields };
}

/**
 * Reads a service's settings. An empty variable counts as unset.
 * @throws Error naming every bad variable at once, so one redeploy fixes them all
 */
export function parseSettings<F extends SettingFields>(
  spec: SettingsSpec<F>,
  env: Environment,
): SettingsOf<SettingsSpec<F>> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(spec.fields)) {
    const text = textOf(setting, env);
    if (text === null) {
      problems.push(`${setting.env} is not set: ${setting.description}`);
      continue;
    }
    try {
      values[key] = setting.parse(text);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      problems.push(`${setting.env}: ${reason}, got "${setting.hide?.(text) ?? text}"`);
    }
  }
  if (problems.length > 0) {
    throw new Error(`${spec.service} configuration:\n  ${problems.join('\n  ')}`);
  }
  return values as SettingsOf<SettingsSpec<F>>;
}

/** What --check-config prints: each variable's text in force, secrets hidden. */
export function describeSettings(spec: SettingsSpec, env: Environment): Record<string, string> {
  const entries = Object.values(spec.fields).map((setting): [string, string] => {
    const text = textOf(setting, env) ?? '';
    return [setting.env, setting.hide?.(text) ?? text];
  });
  return Object.fromEntries(entries);
}

function textOf(setting: Setting<unknown>, env: Environment): string | null {
  const given = env[setting.env];
  return given === undefined || given === '' ? setting.defaultText : given;
}

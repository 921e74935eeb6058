const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1_024, M: 1_048_576 };

/** `4096`, `4K` or `1M` as tokens; null for what is none. */
export function parseLength(text: string): number | null {
  const [, digits, unit = ''] = /^(\d+)([KM]?)$/i.exec(text.trim()) ?? [];
  if (digits === undefined) return null;
  const tokens = Number(digits) * (UNITS[unit.toUpperCase()] ?? 1);
  return Number.isSafeInteger(tokens) && tokens > 0 ? tokens : null;
}

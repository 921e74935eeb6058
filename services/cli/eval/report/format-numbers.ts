import type { Interval } from './statistics.js';

/** 0.9634 as `96.3`, per cent. */
export function formatPercent(share: number): string {
  return (100 * share).toFixed(1);
}

/** 4096 as `4K`, 1048576 as `1M`, 5000 as `5,000`: tokens. */
export function formatLength(tokens: number): string {
  if (tokens > 0 && tokens % 1_048_576 === 0) return `${tokens / 1_048_576}M`;
  if (tokens > 0 && tokens % 1_024 === 0) return `${tokens / 1_024}K`;
  return tokens.toLocaleString('en-US');
}

/** -0.021 as `−2.1`, 0.021 as `+2.1`: points of a hundred. */
export function formatPoints(difference: number): string {
  const points = (100 * difference).toFixed(1);
  if (Number(points) === 0) return '0.0';
  return difference < 0 ? points.replace('-', '−') : `+${points}`;
}

/** `96.3 to 100.0`; an en dash where an end is not known. */
export function formatRange({ low, high }: Interval, format: (value: number) => string): string {
  return Number.isFinite(low) && Number.isFinite(high) ? `${format(low)} to ${format(high)}` : '–';
}

/** A tick of an axis, with as many decimals as tell it from the next. */
export function formatTick(value: number, step: number): string {
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString('en-US', digits);
}

/** Nats a token as perplexity, three significant digits or two decimals. */
export function formatPerplexity(natsPerToken: number): string {
  const perplexity = Math.exp(natsPerToken);
  if (perplexity >= 1e6) return perplexity.toExponential(2);
  return perplexity >= 100 ? Math.round(perplexity).toLocaleString('en-US') : perplexity.toFixed(2);
}

/** Nats a token above dense as a factor on the perplexity: `×1.043`. */
export function formatFactor(natsAbove: number): string {
  const factor = Math.exp(natsAbove);
  return factor >= 1e4 ? `×${factor.toExponential(2)}` : `×${factor.toFixed(3)}`;
}

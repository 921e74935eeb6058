import type { TokenCounter } from '../eval-types.js';

/** A text that grows by units: words, lines, documents. */
export interface UnitText {
  /** The fewest units that make sense. */
  readonly leastUnits: number;
  /** Infinity if the text repeats. */
  readonly mostUnits: number;
  /** The whole text with so many units. */
  build(units: number): string;
  /** About what the text gains from `from` to `to` units; only to foresee counts. */
  added(from: number, to: number): string;
}

/** The longest text that fits. */
export interface Fitted {
  readonly units: number;
  readonly text: string;
  readonly tokens: number;
}

/** Whole texts counted at most; three or four do as a rule. */
const MOST_COUNTS = 24;
/** Below this share of the whole, what is missing is counted piece by piece, not extrapolated. */
const PIECE_SHARE = 16;
const SAMPLES = 8;
const SAMPLE_UNITS = 256;

/**
 * Finds the most units with at most `budgetTokens` tokens. Every whole text counted may cost
 * seconds, so the number is foreseen from counts of small pieces, then verified and corrected. If
 * even `leastUnits` are too many, the text of those is returned: the caller compares.
 */
export async function fitUnits(
  text: UnitText,
  budgetTokens: number,
  counter: TokenCounter,
): Promise<Fitted> {
  const measure = async (units: number): Promise<Fitted> => {
    const built = text.build(units);
    return { units, text: built, tokens: await counter(built) };
  };
  let last = await measure(text.leastUnits);
  let best = last;
  let tooMany = text.mostUnits + 1;
  for (let round = 1; round < MOST_COUNTS; round += 1) {
    if (best.tokens >= budgetTokens || best.units + 1 >= tooMany) break;
    const missing = budgetTokens - last.tokens;
    const step = await foreseenStep(text, last.units, missing, budgetTokens, counter);
    if (step === 0) break;
    const next = Math.min(Math.max(last.units + step, best.units + 1), tooMany - 1);
    last = await measure(next);
    if (last.tokens <= budgetTokens) best = last;
    else tooMany = next;
  }
  return best;
}

/** Units to add, or (below 0) to take away, so that `missing` tokens are gained; 0: none fits. */
async function foreseenStep(
  text: UnitText,
  units: number,
  missing: number,
  budgetTokens: number,
  counter: TokenCounter,
): Promise<number> {
  const rate = await tokensPerUnit(text, units, missing, counter);
  if (Math.abs(missing) > Math.max(2_048, budgetTokens / PIECE_SHARE)) {
    return Math.trunc(missing / rate);
  }
  if (missing > 0) {
    const piece = (count: number): Promise<number> => counter(text.added(units, units + count));
    return mostWithin(missing, rate, text.mostUnits - units, piece);
  }
  const piece = (count: number): Promise<number> => counter(text.added(units - count, units));
  return -1 - (await mostWithin(-missing - 1, rate, units - text.leastUnits - 1, piece));
}

/** From samples spread over the units that are likely to be added or taken away. */
async function tokensPerUnit(
  text: UnitText,
  units: number,
  missing: number,
  counter: TokenCounter,
): Promise<number> {
  const direction = Math.sign(missing);
  const limit = missing > 0 ? text.mostUnits - units : units - text.leastUnits;
  const sample = async (offset: number, count: number): Promise<number> => {
    const from = direction > 0 ? units + offset : units - offset - count;
    return counter(text.added(from, from + count));
  };
  const first = Math.min(16, limit);
  const rough = Math.max((await sample(0, first)) / first, 0.01);
  const reach = Math.min(Math.abs(missing) / rough, limit);
  if (reach <= SAMPLES * SAMPLE_UNITS) return rough;
  let tokens = 0;
  for (let at = 0; at < SAMPLES; at += 1) {
    const offset = Math.floor((reach - SAMPLE_UNITS) * (at / (SAMPLES - 1)));
    tokens += await sample(offset, SAMPLE_UNITS);
  }
  return Math.max(tokens / (SAMPLES * SAMPLE_UNITS), 0.01);
}

/** The most units whose piece has at most `tokens` tokens. */
async function mostWithin(
  tokens: number,
  rate: number,
  most: number,
  piece: (units: number) => Promise<number>,
): Promise<number> {
  let within = 0;
  let beyond = most + 1;
  let units = Math.round(tokens / rate);
  for (let round = 0; round < MOST_COUNTS && beyond - within > 1; round += 1) {
    units = Math.min(Math.max(units, within + 1), beyond - 1);
    const counted = await piece(units);
    if (counted <= tokens) within = units;
    else beyond = units;
    if (counted === tokens) break;
    units += Math.trunc((tokens - counted) / rate) || Math.sign(tokens - counted);
  }
  return within;
}

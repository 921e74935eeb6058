import type { TokenCounter } from '../eval-types.js';
import { fitUnits } from '../tasks/fit-length.js';

/** Rounds that take away what the seam of the two halves added. */
const MOST_ROUNDS = 8;

/** What is left of a prompt whose middle is cut out. */
export interface CutPrompt {
  /** The document's text, to be followed by any of its questions. */
  readonly document: string;
  readonly cutCharacters: number;
}

/**
 * Cuts a prompt's middle out, as both benchmarks publish it: the first and the last half of the
 * tokens are kept. The prompt is a document and the longest question asked of it; the question and
 * what stands before the cut stay whole. Where it fits, nothing is cut.
 *
 * @param budgetTokens for document and question together
 * @returns null if the question alone does not fit into the last half
 */
export async function truncateMiddle(
  document: string,
  question: string,
  budgetTokens: number,
  countTokens: TokenCounter,
): Promise<CutPrompt | null> {
  const questionTokens = await countTokens(question);
  const whole = (await countTokens(document)) + questionTokens;
  if (whole <= budgetTokens) return { document, cutCharacters: 0 };
  let halfTokens = Math.floor(budgetTokens / 2);
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const lastTokens = halfTokens - questionTokens;
    if (lastTokens < 0) return null;
    const first = await firstPart(document, halfTokens, countTokens);
    const last = await lastPart(document, lastTokens, countTokens);
    const kept = first + last;
    const excess = (await countTokens(kept)) + questionTokens - budgetTokens;
    if (excess <= 0) return { document: kept, cutCharacters: document.length - kept.length };
    halfTokens -= Math.ceil(excess / 2);
  }
  return null;
}

async function firstPart(text: string, tokens: number, counter: TokenCounter): Promise<string> {
  const part = (units: number): string => text.slice(0, units);
  const added = (from: number, to: number): string => text.slice(from, to);
  const fitted = await fitCharacters(text, tokens, counter, part, added);
  // Half a surrogate pair would be no character.
  return /[\uD800-\uDBFF]$/.test(fitted) ? fitted.slice(0, -1) : fitted;
}

async function lastPart(text: string, tokens: number, counter: TokenCounter): Promise<string> {
  const part = (units: number): string => text.slice(text.length - units);
  const added = (from: number, to: number): string =>
    text.slice(text.length - to, text.length - from);
  const fitted = await fitCharacters(text, tokens, counter, part, added);
  return /^[\uDC00-\uDFFF]/.test(fitted) ? fitted.slice(1) : fitted;
}

async function fitCharacters(
  text: string,
  tokens: number,
  counter: TokenCounter,
  build: (units: number) => string,
  added: (from: number, to: number) => string,
): Promise<string> {
  if (tokens === 0) return '';
  const fitted = await fitUnits(
    { leastUnits: 0, mostUnits: text.length, build, added },
    tokens,
    counter,
  );
  return fitted.text;
}

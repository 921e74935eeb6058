import { ServingError } from '../../../domain/serving-error.js';
import type { EvalDocument, LogprobTarget, TokenCounter } from '../eval-types.js';
import { SeededRandom } from '../../text/seeded-random.js';
import { documentId, fitDocument } from './document-draft.js';
import type { TaskRequest } from './task-types.js';

const SAMPLES = 8;
const SAMPLE_CHARACTERS = 4_096;
/** Room between documents, since some prose has more characters a token than the samples. */
const SPARE = 1.1;
const MOST_WINDOWS = 64;
const LEAST_WINDOW_TOKENS = 256;

/**
 * A piece of real text, raw, to be scored word for word. The documents of one length are cut side by
 * side from all texts in a row, in an order that depends on the seed.
 */
export async function makePerplexity(task: string, request: TaskRequest): Promise<EvalDocument> {
  const whole = wholeText(request);
  const begin = await placeOf(task, request, whole);
  const ends = wordEnds(whole, begin, request.lengthTokens);
  const endOf = (units: number): number => ends[units - 1] ?? begin;
  const fitted = await fitDocument(task, request, [], {
    leastUnits: 1,
    mostUnits: ends.length,
    build: (units) => whole.slice(begin, endOf(units)),
    added: (from, to) => whole.slice(endOf(from), endOf(to)),
  });
  if (fitted.units === ends.length) throw tooShort(task, request, request.index);
  return {
    id: documentId(task, request),
    task,
    lengthTokens: request.lengthTokens,
    promptText: fitted.text,
    chat: false,
    questions: [],
    logprobTargets: windows(fitted.tokens, (share) => {
      const units = Math.round(fitted.units * share);
      return units === 0 ? 0 : endOf(units) - begin;
    }),
  };
}

/**
 * Makes sure that the texts have room for as many documents of a length, before any is asked.
 *
 * @param request `index` does not matter
 * @throws ServingError BAD_REQUEST saying for how many there is room
 */
export async function checkPerplexityRoom(
  task: string,
  request: TaskRequest,
  documents: number,
): Promise<void> {
  const { order } = await placesOf(task, request, wholeText(request));
  if (documents > order.length) throw tooShort(task, request, order.length);
  // Only the one at the very end of the texts can be short, where their words are long ones.
  const last = order.indexOf(order.length - 1);
  if (last < documents) await makePerplexity(task, { ...request, index: last });
}

function wholeText({ sources }: TaskRequest): string {
  return sources
    .texts()
    .map(({ text }) => text)
    .join('\n\n');
}

/** Where document `index` begins, at the start of a word. */
async function placeOf(task: string, request: TaskRequest, whole: string): Promise<number> {
  const { order, spacing } = await placesOf(task, request, whole);
  const place = order[request.index];
  if (place === undefined) throw tooShort(task, request, order.length);
  const near = Math.floor(place * spacing);
  const wordStart = /(?<=\s|^)\S/g;
  wordStart.lastIndex = near;
  return wordStart.exec(whole)?.index ?? near;
}

/** The places that have room, as document 0, 1, ... takes them, and the characters of each. */
async function placesOf(
  task: string,
  { seed, lengthTokens, counter }: TaskRequest,
  whole: string,
): Promise<{ readonly order: readonly number[]; readonly spacing: number }> {
  const spacing = lengthTokens * (await charactersPerToken(whole, counter)) * SPARE;
  const places = Math.floor(whole.length / spacing);
  const random = new SeededRandom(`${String(seed)}/${task}/${String(lengthTokens)}`);
  return { order: random.shuffle(Array.from({ length: places }, (_, place) => place)), spacing };
}

async function charactersPerToken(whole: string, counter: TokenCounter): Promise<number> {
  let characters = 0;
  let tokens = 0;
  for (let at = 0; at < SAMPLES; at += 1) {
    const from = Math.floor((whole.length * at) / SAMPLES);
    const piece = whole.slice(from, from + SAMPLE_CHARACTERS).trim();
    characters += piece.length;
    tokens += await counter(piece);
  }
  return characters / Math.max(tokens, 1);
}

/** Ends of the words from `begin` on; a word has a token at least, so `most` are enough. */
function wordEnds(whole: string, begin: number, most: number): number[] {
  const ends: number[] = [];
  const word = /\s*\S+/g;
  word.lastIndex = begin;
  while (ends.length < most && word.exec(whole) !== null) ends.push(word.lastIndex);
  return ends;
}

/** The whole text in windows of about equally many tokens, without gaps. */
function windows(tokens: number, endAt: (share: number) => number): LogprobTarget[] {
  const count = Math.min(MOST_WINDOWS, Math.max(1, Math.floor(tokens / LEAST_WINDOW_TOKENS)));
  return Array.from({ length: count }, (_, at) => ({
    id: `w${String(at)}`,
    beginCharacter: endAt(at / count),
    endCharacter: endAt((at + 1) / count),
    facts: { positionTokens: Math.round((tokens * (at + 0.5)) / count) },
  }));
}

function tooShort(task: string, { lengthTokens }: TaskRequest, places: number): ServingError {
  return new ServingError(
    'BAD_REQUEST',
    `the texts of ${task} have room for ${String(places)} documents of ${String(lengthTokens)} tokens: ask for fewer or shorter ones, or name a folder with more text`,
  );
}

import type { EvalDocument, LogprobTarget } from '../eval-types.js';
import type { SeededRandom } from '../../text/seeded-random.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from './document-draft.js';
import { drawNumberNeedles, type NumberNeedle } from './number-needles.js';
import { placeLines } from './place-lines.js';
import { needleSentence, niahWording } from './ruler/templates.js';
import type { TaskRequest } from './task-types.js';

const MOST_PAIRS = 16;
/** So that a needle and its question, some 90 tokens, take a fifth of the text at most. */
const TOKENS_PER_PAIR = 450;
/** Questions stand from here to the end: there must be room before the first for a distance. */
const FIRST_QUESTION = 0.2;
const LAST_QUESTION = 0.98;
/** Behind the few first tokens that sparse attention always keeps. */
const FIRST_NEEDLE = 0.03;

/** A needle and, later in the text, the question for it with its answer; shares of the text. */
interface Pair extends NumberNeedle {
  readonly needleAt: number;
  readonly questionAt: number;
}

/**
 * Prose with needles in it and, spread over all of it, passages that ask for one and answer. What a
 * model makes of them shows in the log-probability of the answers where they stand, so a policy
 * cannot save its strength for the end of the prompt.
 */
export async function makeMidprompt(task: string, request: TaskRequest): Promise<EvalDocument> {
  const random = documentRandom(task, request);
  const prose = request.sources.haystack();
  const start = prose.sentenceStartAfter(random.integer(0, prose.wordCount));
  const pairs = drawPairs(request, random);
  const { document } = niahWording('numbers', pairs.length + 1);
  const fitted = await fitDocument(task, request, [], {
    leastUnits: 1,
    mostUnits: Infinity,
    // Without the line break before a question: chat templates trim it away.
    build: (units) =>
      fillTemplate(document, { context: plant(pairs, prose.sentences(start, units)) }).trimEnd(),
    added: (from, to) => ` ${prose.words(start + from, to - from)}`,
  });
  return {
    ...chatDocument(task, request, fitted.text, []),
    logprobTargets: pairs.map((pair, at) => target(pair, at, fitted)),
  };
}

/** Questions at even distances; each needle anywhere in the first half of what comes before. */
function drawPairs(request: TaskRequest, random: SeededRandom): Pair[] {
  const fitting = Math.max(1, Math.floor(request.lengthTokens / TOKENS_PER_PAIR));
  const count = request.questionsPerDocument ?? Math.min(MOST_PAIRS, fitting);
  const needles = drawNumberNeedles(count, request.sources, random);
  return needles.map((needle, at) => {
    const share = (at + random.next()) / count;
    const questionAt = FIRST_QUESTION + (LAST_QUESTION - FIRST_QUESTION) * share;
    const needleAt = FIRST_NEEDLE + random.next() * (questionAt / 2 - FIRST_NEEDLE);
    return { ...needle, needleAt, questionAt };
  });
}

function plant(pairs: readonly Pair[], sentences: readonly string[]): string {
  const place = (share: number): number => Math.floor(sentences.length * share);
  const needles = pairs.map(({ key, value, needleAt }) => ({
    place: place(needleAt),
    line: needleSentence('numbers', key, value),
  }));
  const passages = pairs.map((pair) => ({
    place: place(pair.questionAt),
    line: `\n${question(pair)} ${answer(pair)}\n`,
  }));
  // A passage is a paragraph of its own; prose holds no line breaks.
  return placeLines(sentences, [...needles, ...passages])
    .join(' ')
    .replace(/ ?\n[ \n]*/g, '\n')
    .trim();
}

function question({ key }: NumberNeedle): string {
  return fillTemplate(niahWording('numbers', 1).question, { query: key });
}

function answer({ key, value }: NumberNeedle): string {
  const begun = fillTemplate(niahWording('numbers', 1).answerPrefix, { query: key });
  return `${begun.trim()} ${value}.`;
}

function target(
  pair: Pair,
  at: number,
  { text, tokens }: { readonly text: string; readonly tokens: number },
): LogprobTarget {
  const passage = answer(pair);
  const endCharacter = text.indexOf(passage) + passage.length - 1;
  const beginCharacter = endCharacter - pair.value.length;
  const needle = text.indexOf(needleSentence('numbers', pair.key, pair.value));
  const percent = (character: number): number => Math.round((100 * character) / text.length);
  return {
    id: `p${String(at)}`,
    beginCharacter,
    endCharacter,
    facts: {
      distanceTokens: Math.round(((beginCharacter - needle) * tokens) / text.length),
      depthPercent: percent(needle),
      questionPercent: percent(beginCharacter),
    },
  };
}

import { ServingError } from '../../../../domain/serving-error.js';
import type { EvalDocument, EvalQuestion } from '../../eval-types.js';
import type { SeededRandom } from '../../../text/seeded-random.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from '../document-draft.js';
import type { TaskRequest } from '../task-types.js';
import type { WordLists } from '../words.js';
import { CWE_COMMON_WORDS, CWE_WORDING } from './templates.js';

/** How often a common and any other word stands in the list. */
interface Repeats {
  readonly common: number;
  readonly other: number;
}

/** RULER makes shorter lists less repetitive. */
const SHORT_TOKENS = 4_096;

/** RULER's common words extraction. */
export async function makeCommonWords(task: string, request: TaskRequest): Promise<EvalDocument> {
  const isShort = request.lengthTokens < SHORT_TOKENS;
  const repeats: Repeats = isShort ? { common: 6, other: 1 } : { common: 30, other: 3 };
  const random = documentRandom(task, request);
  const pool = wordPool(request.sources.words(), random);
  const example = workedExample(isShort, pool, random);
  const shuffles = (units: number): SeededRandom =>
    documentRandom(task, request, `/${String(units)} words`);
  const context = (units: number): string =>
    numbered(shuffles(units).shuffle(repeated(pool.take(units), repeats)));
  const fitted = await fitDocument(task, request, [question([])], {
    leastUnits: CWE_COMMON_WORDS + 1,
    mostUnits: pool.size,
    build: (units) => example + fillTemplate(CWE_WORDING.document, { context: context(units) }),
    added: (from, to) => {
      const entries = pool.take(to).slice(from).flatMap(times(repeats.other));
      return ` ${numbered(entries, from * repeats.other)}`;
    },
  });
  const common = pool.take(fitted.units).slice(0, CWE_COMMON_WORDS);
  return chatDocument(task, request, fitted.text, [question(common)]);
}

function question(common: readonly string[]): EvalQuestion {
  return {
    id: 'q0',
    questionText: CWE_WORDING.question,
    answerPrefix: CWE_WORDING.answerPrefix,
    references: common,
    metric: 'string_match_all',
    maxNewTokens: CWE_WORDING.maxNewTokens,
    facts: {},
  };
}

/** A small list with question and answer, in front of the real one. */
function workedExample(isShort: boolean, pool: WordPool, random: SeededRandom): string {
  const repeats: Repeats = isShort ? { common: 3, other: 1 } : { common: 10, other: 3 };
  const words = random.sample(pool.take(pool.commonSize), isShort ? 20 : 40);
  const context = numbered(random.shuffle(repeated(words, repeats)));
  const text = fillTemplate(CWE_WORDING.document, { context });
  const answer = numbered(words.slice(0, CWE_COMMON_WORDS));
  return `${text}${CWE_WORDING.question}${CWE_WORDING.answerPrefix} ${answer}\n`;
}

/** Different words in random order. */
interface WordPool {
  readonly commonSize: number;
  readonly size: number;
  /** The first `count`; from the long list alone if the word lists have too few. */
  take(count: number): readonly string[];
}

function wordPool(lists: WordLists, random: SeededRandom): WordPool {
  const common = random.shuffle(
    [...new Set([...lists.nouns, ...lists.adjectives, ...lists.verbs])].sort(),
  );
  if (common.length < 4 * CWE_COMMON_WORDS) {
    throw new ServingError('BAD_REQUEST', 'cwe needs word lists of at least 40 different words');
  }
  const all = lists.more();
  let shuffled: readonly string[] | undefined;
  return {
    commonSize: common.length,
    size: Math.max(all.length, common.length),
    take(count) {
      if (count <= common.length) return common.slice(0, count);
      shuffled ??= random.shuffle(all);
      return shuffled.slice(0, count);
    },
  };
}

function repeated(words: readonly string[], { common, other }: Repeats): string[] {
  return words.flatMap((word, at) => times(at < CWE_COMMON_WORDS ? common : other)(word));
}

function times(count: number): (word: string) => string[] {
  return (word) => new Array<string>(count).fill(word);
}

/** '1. word 2. word ...' */
function numbered(words: readonly string[], before = 0): string {
  return words.map((word, at) => `${String(before + at + 1)}. ${word}`).join(' ');
}

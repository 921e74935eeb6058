import type { EvalDocument } from '../../eval-types.js';
import type { SeededRandom } from '../../../text/seeded-random.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from '../document-draft.js';
import type { TaskRequest } from '../task-types.js';
import { FWE_ALPHA, FWE_WORDING } from './templates.js';

const WORD_LETTERS = 6;
const TOKENS_PER_VOCABULARY_WORD = 50;
/** Sum of k^-2 over all k: what makes the shares of all ranks 1. */
const ZETA_OF_ALPHA = Math.PI ** 2 / 6;
const NOISE_WORD = '...';
/** With fewer, the words of ranks 3 and 4 do not stand in the text. */
const LEAST_UNITS = 28;

/** RULER's frequent words extraction: words whose counts follow the zeta law. */
export async function makeFrequentWords(task: string, request: TaskRequest): Promise<EvalDocument> {
  const random = documentRandom(task, request);
  const vocabulary = drawVocabulary(random, request.lengthTokens - FWE_WORDING.maxNewTokens);
  const shuffles = (units: number): SeededRandom =>
    documentRandom(task, request, `/${String(units)} words`);
  const question = {
    id: 'q0',
    questionText: FWE_WORDING.question,
    answerPrefix: FWE_WORDING.answerPrefix,
    references: vocabulary.slice(1, 4),
    metric: 'string_match_all' as const,
    maxNewTokens: FWE_WORDING.maxNewTokens,
    facts: {},
  };
  const fitted = await fitDocument(task, request, [question], {
    leastUnits: LEAST_UNITS,
    mostUnits: Infinity,
    build: (units) => {
      const words = occurrences(vocabulary, (rank) => timesOfRank(rank, units));
      return fillTemplate(FWE_WORDING.document, {
        context: shuffles(units).shuffle(words).join(' '),
      });
    },
    added: (from, to) => {
      const gained = (rank: number): number => timesOfRank(rank, to) - timesOfRank(rank, from);
      const words = occurrences(vocabulary, gained);
      return words.map((word) => ` ${word}`).join('');
    },
  });
  return chatDocument(task, request, fitted.text, [question]);
}

/** How often the word of a rank, from 1, stands in a text of so many words. */
export function timesOfRank(rank: number, words: number): number {
  return Math.floor((words * rank ** -FWE_ALPHA) / ZETA_OF_ALPHA);
}

function occurrences(vocabulary: readonly string[], times: (rank: number) => number): string[] {
  return vocabulary.flatMap((word, at) => new Array<string>(times(at + 1)).fill(word));
}

/** Words in the order of their ranks; the first is noise. */
function drawVocabulary(random: SeededRandom, promptTokens: number): string[] {
  const size = Math.max(4, Math.floor(promptTokens / TOKENS_PER_VOCABULARY_WORD));
  const letter = (): string => String.fromCharCode(97 + random.integer(0, 26));
  const words = new Set<string>();
  while (words.size < size) words.add(Array.from({ length: WORD_LETTERS }, letter).join(''));
  return [NOISE_WORD, ...[...words].slice(1)];
}

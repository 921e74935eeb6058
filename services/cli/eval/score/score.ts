import type { EvalQuestion, MetricName } from '../eval-types.js';
import { choice, codeDebug } from './choice.js';
import { classification } from './classification.js';
import { codeSimilarity } from './code-similarity.js';
import { firstNumber, firstNumberValue, lastInteger, leadingIntegers } from './number-answer.js';
import { countShare, retrievalShare } from './number-share.js';
import { rougeL, rougeLChinese } from './rouge-l.js';
import { rougeLsum } from './rouge-lsum.js';
import { stringMatchAll, stringMatchPart } from './string-match.js';
import { chineseCharacterF1, chineseWordF1, englishF1 } from './token-f1.js';
import { dialogueName, keyValueRetrieval } from './word-answer.js';
import { firstLine } from './words.js';

type Scorer = (
  prediction: string,
  references: readonly string[],
  classes: readonly string[],
) => number;

/** What the published scripts compute, one sample at a time. */
const SCORERS: Record<MetricName, Scorer> = {
  // RULER.
  string_match_all: stringMatchAll,
  string_match_part: stringMatchPart,
  // LongBench; qa_f1 is also InfiniteBench's En.QA.
  qa_f1: best(englishF1),
  qa_f1_first_line: onFirstLine(best(englishF1)),
  qa_f1_zh: best(chineseWordF1),
  rouge_l: best(rougeL),
  rouge_l_first_line: onFirstLine(best(rougeL)),
  rouge_l_zh: best(rougeLChinese),
  classification: onFirstLine(best(classification)),
  retrieval: best((prediction, reference) => retrievalShare(prediction, reference, 'Paragraph ')),
  retrieval_zh: best((prediction, reference) => retrievalShare(prediction, reference, '段落')),
  count: best(countShare),
  code_similarity: best(codeSimilarity),
  // InfiniteBench.
  character_f1_zh: best(chineseCharacterF1),
  rouge_lsum: ofFirst(rougeLsum),
  choice: (prediction, references) => Number(choice(prediction, references)),
  code_debug: (prediction, references) => Number(codeDebug(prediction, references)),
  first_number: ofFirst(firstNumber),
  last_integer: ofFirst(lastInteger),
  leading_integers: leadingIntegers,
  math_find: ofFirst(firstNumberValue),
  kv_retrieval: ofFirst(keyValueRetrieval),
  dialogue_name: ofFirst(dialogueName),
};

/**
 * The score of one prediction, 0 to 1. What the references are depends on the metric: any of them
 * may be right, or (`string_match_all`, `leading_integers`) all are wanted, or (`choice`,
 * `code_debug`) they are the right option's text and its letter.
 *
 * @param classes of a `classification`: every class of the task. Others need none.
 * @throws Error for a classification without classes: it would find every prediction right or wrong
 *   by the reference alone
 */
export function score(
  metric: MetricName,
  prediction: string,
  references: readonly string[],
  classes: readonly string[] = [],
): number {
  if (metric === 'classification' && classes.length === 0) {
    throw new Error(
      'a classification is scored against all classes of its task, and none are given',
    );
  }
  return SCORERS[metric](prediction, references, classes);
}

/** The score of an answer to `question`, 0 to 1. */
export function scoreAnswer(question: EvalQuestion, prediction: string): number {
  return score(question.metric, prediction, question.references, question.classes);
}

function best(
  scoreOne: (prediction: string, reference: string, classes: readonly string[]) => number,
): Scorer {
  return (prediction, references, classes) =>
    Math.max(0, ...references.map((reference) => scoreOne(prediction, reference, classes)));
}

function ofFirst(scoreOne: (prediction: string, reference: string) => number | boolean): Scorer {
  return (prediction, [reference]) =>
    reference === undefined ? 0 : Number(scoreOne(prediction, reference));
}

function onFirstLine(scorer: Scorer): Scorer {
  return (prediction, references, classes) => scorer(firstLine(prediction), references, classes);
}

import type { EvalDocument } from '../eval-types.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from './document-draft.js';
import { drawNumberNeedles } from './number-needles.js';
import { evenDepths, nearestPlace, placeLines } from './place-lines.js';
import { needleSentence, niahWording } from './ruler/templates.js';
import type { TaskRequest } from './task-types.js';

const DEFAULT_DEPTHS = 10;

/** One needle at each depth of a text of prose, each asked for by a question of its own. */
export async function makeNeedleGrid(task: string, request: TaskRequest): Promise<EvalDocument> {
  const random = documentRandom(task, request);
  const prose = request.sources.haystack();
  const start = prose.sentenceStartAfter(random.integer(0, prose.wordCount));
  const depths = evenDepths(request.depths ?? DEFAULT_DEPTHS);
  const needles = drawNumberNeedles(depths.length, request.sources, random);
  const wording = niahWording('numbers', 1);
  const questions = needles.map(({ key, value }, at) => ({
    id: `q${String(at)}`,
    questionText: fillTemplate(wording.question, { query: key }),
    answerPrefix: fillTemplate(wording.answerPrefix, { query: key }),
    references: [value],
    metric: 'string_match_all' as const,
    maxNewTokens: wording.maxNewTokens,
    facts: { depthPercent: depths[at] ?? 0 },
  }));
  const hide = (units: number): string => {
    const sentences = prose.sentences(start, units);
    const placed = needles.map(({ key, value }, at) => ({
      place: nearestPlace(sentences, depths[at] ?? 0),
      line: needleSentence('numbers', key, value),
    }));
    return placeLines(sentences, placed).join(' ');
  };
  const fitted = await fitDocument(task, request, questions, {
    leastUnits: 1,
    mostUnits: Infinity,
    build: (units) => fillTemplate(wording.document, { context: hide(units) }),
    added: (from, to) => ` ${prose.words(start + from, to - from)}`,
  });
  return chatDocument(task, request, fitted.text, questions);
}

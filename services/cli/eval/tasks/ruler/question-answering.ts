import { ServingError } from '../../../../domain/serving-error.js';
import type { EvalDocument } from '../../eval-types.js';
import { chatDocument, documentRandom, fillTemplate, fitDocument } from '../document-draft.js';
import type { TaskRequest } from '../task-types.js';
import type { QaQuestion, QuestionSet } from './qa-data.js';
import { QA_WORDING } from './templates.js';

/** RULER's qa tasks: document i asks question i of the file, among documents that do not answer. */
export async function makeQuestionAnswering(
  task: string,
  set: QuestionSet,
  request: TaskRequest,
): Promise<EvalDocument> {
  const qa = questionOf(task, set, request.index);
  const inOrder = fillOrder(task, set, qa, request);
  const documents = (from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, at) => inOrder(from + at));
  const values = { query: qa.query };
  const question = {
    id: 'q0',
    questionText: fillTemplate(QA_WORDING.question, values),
    answerPrefix: QA_WORDING.answerPrefix,
    references: qa.answers,
    metric: 'string_match_part' as const,
    maxNewTokens: QA_WORDING.maxNewTokens,
    facts: {},
  };
  const fitted = await fitDocument(task, request, [question], {
    leastUnits: qa.context.length,
    mostUnits: Infinity,
    build: (units) => {
      const random = documentRandom(task, request, `/${String(units)} documents`);
      const context = numbered(random.shuffle(documents(0, units)));
      return fillTemplate(QA_WORDING.document, { context });
    },
    added: (from, to) => `\n\n${numbered(documents(from, to), from)}`,
  });
  return chatDocument(task, request, fitted.text, [question]);
}

function questionOf(task: string, { questions }: QuestionSet, index: number): QaQuestion {
  const qa = questions[index];
  if (qa !== undefined) return qa;
  throw new ServingError(
    'BAD_REQUEST',
    `${task} has ${String(questions.length)} questions in its file: there is no document ${String(index)}`,
  );
}

/** The n-th document to take: those of the question, those near it, all others, all over again. */
function fillOrder(
  task: string,
  { documents }: QuestionSet,
  { context, moreContext }: QaQuestion,
  request: TaskRequest,
): (at: number) => string {
  const random = documentRandom(task, request);
  const near = random.shuffle(moreContext);
  const own = new Set([...context, ...near]);
  const others = documents.map((_, number) => number).filter((number) => !own.has(number));
  const order = [...own, ...random.shuffle(others)];
  return (at) => documents[order[at % order.length] as number] as string;
}

function numbered(documents: readonly string[], before = 0): string {
  return documents
    .map((document, at) => `Document ${String(before + at + 1)}:\n${document}`)
    .join('\n\n');
}

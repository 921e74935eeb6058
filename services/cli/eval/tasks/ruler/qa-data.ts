import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { ServingError } from '../../../../domain/serving-error.js';

/** One question with the documents that belong to it, as numbers of QuestionSet.documents. */
export interface QaQuestion {
  readonly query: string;
  readonly answers: readonly string[];
  /** Always in the prompt. */
  readonly context: readonly number[];
  /** First choice to fill the prompt, such as the rest of the article. */
  readonly moreContext: readonly number[];
}

export interface QuestionSet {
  /** Different texts, sorted. */
  readonly documents: readonly string[];
  readonly questions: readonly QaQuestion[];
}

const squadSchema = z.object({
  data: z.array(
    z.object({
      paragraphs: z.array(
        z.object({
          context: z.string(),
          qas: z.array(
            z.object({
              question: z.string(),
              is_impossible: z.boolean().default(false),
              answers: z.array(z.object({ text: z.string() })),
            }),
          ),
        }),
      ),
    }),
  ),
});

const hotpotSchema = z.array(
  z.object({
    question: z.string(),
    answer: z.string(),
    context: z.array(z.tuple([z.string(), z.array(z.string())])),
  }),
);

/** The answerable questions of a SQuAD file. @throws ServingError BAD_REQUEST */
export function readSquad(path: string): QuestionSet {
  const { data } = readJson(path, 'SQuAD', squadSchema);
  const articles = data.map(({ paragraphs }) => paragraphs);
  const { documents, numberOf } = numberTexts(articles.flat().map(({ context }) => context));
  const questions = articles.flatMap((paragraphs) => {
    const article = paragraphs.map(({ context }) => numberOf(context));
    return paragraphs.flatMap(({ context, qas }) => {
      const gold = numberOf(context);
      const moreContext = [...new Set(article)].filter((number) => number !== gold);
      return qas
        .filter((qa) => !qa.is_impossible)
        .map(({ question, answers }) => ({
          query: question,
          answers: answers.map(({ text }) => text),
          context: [gold],
          moreContext,
        }));
    });
  });
  return nonEmpty(path, { documents, questions });
}

/** The questions of a HotpotQA distractor file. @throws ServingError BAD_REQUEST */
export function readHotpot(path: string): QuestionSet {
  const data = readJson(path, 'HotpotQA distractor', hotpotSchema);
  const texts = data.map(({ context }) =>
    context.map(([title, sentences]) => `${title}\n${sentences.join('')}`),
  );
  const { documents, numberOf } = numberTexts(texts.flat());
  const questions = data.map(({ question, answer }, at) => ({
    query: question,
    answers: [answer],
    context: [...new Set((texts[at] ?? []).map(numberOf))],
    moreContext: [],
  }));
  return nonEmpty(path, { documents, questions });
}

function numberTexts(texts: readonly string[]): {
  documents: readonly string[];
  numberOf: (text: string) => number;
} {
  const documents = [...new Set(texts)].sort();
  const numbers = new Map(documents.map((text, number) => [text, number]));
  return { documents, numberOf: (text) => numbers.get(text) as number };
}

function nonEmpty(path: string, set: QuestionSet): QuestionSet {
  if (set.questions.length > 0) return set;
  throw new ServingError('BAD_REQUEST', `${path} holds no question that has an answer`);
}

function readJson<T>(path: string, what: string, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ServingError(
      'BAD_REQUEST',
      `cannot read ${path}: it must be the JSON file of ${what}`,
      {},
      { cause: error },
    );
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined ? '' : `: ${issue.path.join('.')}: ${issue.message}`;
  throw new ServingError('BAD_REQUEST', `${path} is no ${what} file${where}`);
}

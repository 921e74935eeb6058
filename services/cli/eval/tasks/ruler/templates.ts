import type { NeedleKind } from '../draw-needles.js';

/**
 * The tables of RULER's 13 tasks (NVIDIA/RULER): wording and parameters, which are what makes a
 * score comparable. A template is cut where the question begins: document + question is the whole.
 */
export interface TaskWording {
  readonly document: string;
  readonly question: string;
  readonly answerPrefix: string;
  readonly maxNewTokens: number;
}

const NIAH_WORDING: TaskWording = {
  document:
    'Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. I will quiz you about the {type_needle_v} afterwards.\n{context}\n',
  question:
    'What are all the special magic {type_needle_v} for {query} mentioned in the provided text?',
  answerPrefix: ' The special magic {type_needle_v} for {query} mentioned in the provided text are',
  maxNewTokens: 128,
};

/** The wording for needles of one kind of value; in the singular if one value is asked for. */
export function niahWording(valueKind: NeedleKind, valuesAsked: number): TaskWording {
  const isSingular = valuesAsked === 1;
  const kind = isSingular ? valueKind.slice(0, -1) : valueKind;
  const word = (text: string): string =>
    (isSingular ? singular(text) : text).replaceAll('{type_needle_v}', kind);
  return {
    document: word(NIAH_WORDING.document),
    question: word(NIAH_WORDING.question),
    answerPrefix: word(NIAH_WORDING.answerPrefix),
    maxNewTokens: NIAH_WORDING.maxNewTokens,
  };
}

/** What is hidden; always in the plural. */
export function needleSentence(kind: NeedleKind, key: string, value: string): string {
  return `One of the special magic ${kind} for ${key} is: ${value}.`;
}

/** 'a', or 'a, b, c, and d'. */
export function joinQueries(keys: readonly string[]): string {
  if (keys.length < 2) return keys.join('');
  return `${keys.slice(0, -1).join(', ')}, and ${keys.at(-1) ?? ''}`;
}

function singular(text: string): string {
  return text
    .replaceAll('Some', 'A')
    .replaceAll('are all', 'is')
    .replaceAll('are', 'is')
    .replaceAll('answers', 'answer');
}

export const NOISE_SENTENCE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';

export interface NiahParameters {
  readonly haystack: 'noise' | 'essay' | 'needle';
  readonly keyKind: NeedleKind;
  readonly valueKind: NeedleKind;
  /** Keys hidden for each question. */
  readonly keys: number;
  readonly valuesPerKey: number;
  /** Keys asked for in one question. */
  readonly queries: number;
}

const SINGLE: NiahParameters = {
  haystack: 'essay',
  keyKind: 'words',
  valueKind: 'numbers',
  keys: 1,
  valuesPerKey: 1,
  queries: 1,
};

export const NIAH_TASKS = {
  niah_single_1: { ...SINGLE, haystack: 'noise' },
  niah_single_2: SINGLE,
  niah_single_3: { ...SINGLE, valueKind: 'uuids' },
  niah_multikey_1: { ...SINGLE, keys: 4 },
  niah_multikey_2: { ...SINGLE, haystack: 'needle' },
  niah_multikey_3: { ...SINGLE, haystack: 'needle', keyKind: 'uuids', valueKind: 'uuids' },
  niah_multivalue: { ...SINGLE, valuesPerKey: 4 },
  // RULER raises the keys hidden to the keys asked for.
  niah_multiquery: { ...SINGLE, keys: 4, queries: 4 },
} as const satisfies Record<string, NiahParameters>;

export const VT_HOPS = 4;
export const VT_WORDING: TaskWording = {
  document:
    'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n',
  question: 'Question: Find all variables that are assigned the value {query} in the text above.',
  answerPrefix:
    ' Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables are assigned the value {query}, they are: ',
  maxNewTokens: 30,
};

export const CWE_COMMON_WORDS = 10;
export const CWE_WORDING: TaskWording = {
  document:
    'Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n{context}\n',
  question: 'Question: What are the 10 most common words in the above list?',
  answerPrefix: ' Answer: The top 10 words that appear most often in the list are:',
  maxNewTokens: 120,
};

export const FWE_ALPHA = 2;
export const FWE_WORDING: TaskWording = {
  document:
    'Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. {context}\n',
  question:
    "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?",
  answerPrefix:
    ' Answer: According to the coded text above, the three most frequently appeared words are:',
  maxNewTokens: 50,
};

export const QA_WORDING: TaskWording = {
  document:
    'Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\nThe following are given documents.\n\n{context}\n\n',
  question:
    'Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\nQuestion: {query}',
  answerPrefix: ' Answer:',
  maxNewTokens: 32,
};

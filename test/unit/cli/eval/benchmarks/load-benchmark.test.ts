import assert from '../../../../support/assert.js';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { loadBenchmark } from '../../../../../services/cli/eval/benchmarks/load-benchmark.js';
import type { BenchmarkOptions } from '../../../../../services/cli/eval/benchmarks/benchmark-types.js';
import type { EvalDocument } from '../../../../../services/cli/eval/eval-types.js';
import { PromptHalves } from '../../../../../services/cli/eval/run/prompt-halves.js';
import { ServingError } from '../../../../../services/domain/serving-error.js';

const halves = await PromptHalves.load('needle', 'models/needle');
const OPTIONS: BenchmarkOptions = {
  lengthTokens: 4_096,
  countTokens: halves.countTokens,
  templateTokens: async (chat) => halves.frameTokens(chat),
};

async function folderOf(
  t: TestContext,
  files: Readonly<Record<string, readonly unknown[] | string>>,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'longshadow-benchmark-'));
  t.after(async () => rm(folder, { recursive: true }));
  for (const [name, lines] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    const text =
      typeof lines === 'string' ? lines : lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    await writeFile(join(folder, name), text);
  }
  return folder;
}

async function documentsOf(
  name: string,
  folder: string,
  options: Partial<BenchmarkOptions> = {},
): Promise<EvalDocument[]> {
  const listed = await loadBenchmark(name, folder, { ...OPTIONS, ...options });
  const documents: EvalDocument[] = [];
  for (const one of listed) {
    const document = await one.make();
    assert.equal(document.id, one.id);
    assert.equal(document.questions.length, one.questionCount);
    documents.push(document);
  }
  return documents;
}

async function refusal(name: string, folder: string, options: Partial<BenchmarkOptions> = {}) {
  try {
    await documentsOf(name, folder, options);
  } catch (error) {
    assert.ok(error instanceof ServingError && error.code === 'BAD_REQUEST', String(error));
    return error.message;
  }
  return assert.fail('nothing was refused');
}

const BOOK = 'Mr. Bronwyn went to the Hebrides. '.repeat(20);
const OTHER_BOOK = 'Nobody went anywhere at all. '.repeat(20);

test('questions about one book become one document, books keep their order', async (t) => {
  const folder = await folderOf(t, {
    'longbook_qa_eng.jsonl': [
      { id: 0, context: BOOK, input: 'Who went?', answer: ['Mr. Bronwyn'], options: [] },
      { id: 1, context: OTHER_BOOK, input: 'Who went?', answer: ['nobody'], options: [] },
      {
        id: 2,
        context: BOOK,
        input: 'Where to?',
        answer: ['the Hebrides', 'islands'],
        options: [],
      },
    ],
  });
  const [book, other, ...more] = await documentsOf('infinitebench', folder);
  assert.deepEqual(more, []);
  assert.equal(book?.id, 'longbook_qa_eng/4096/0');
  assert.equal(other?.id, 'longbook_qa_eng/4096/1');
  assert.equal(
    book.promptText,
    `Read the book and answer the question. Be very concise in your answer.\n\n${BOOK}`,
  );
  assert.equal(book.chat, false, 'the wording for models without a chat template is raw text');
  const [who, where] = book.questions;
  assert.equal(who?.questionText, '\n\nQuestion: Who went?\nAnswer:');
  assert.equal(where?.questionText, '\n\nQuestion: Where to?\nAnswer:');
  assert.deepEqual(where.references, ['the Hebrides', 'islands']);
  assert.deepEqual(
    [where.metric, where.maxNewTokens, where.id, where.facts],
    ['qa_f1', 40, 'line3', { line: 3, cutCharacters: 0 }],
  );
  assert.equal(other.questions.length, 1);
});

test('the chat wording is one user message with room for sentences', async (t) => {
  const folder = await folderOf(t, {
    'passkey.jsonl': [
      { context: 'The pass key is 71432.', input: 'What is the pass key?', answer: '71432' },
    ],
  });
  const [document] = await documentsOf('infinitebench', folder, { wording: 'chat' });
  assert.equal(document?.chat, true);
  assert.match(
    document.promptText,
    /I will quiz you about the important information there\.\n\nThe/,
  );
  assert.equal(document.questions[0]?.questionText, '\n\nWhat is the pass key?');
  assert.equal(document.questions[0].maxNewTokens, 32);
});

test('every task of InfiniteBench is asked as published', async (t) => {
  const options = ['f', 'g', 'h', 'i'];
  const lines: Record<string, [line: unknown, asked: RegExp, references: string[]]> = {
    kv_retrieval: [
      {
        content: '{"a": "b"}',
        input: '\nKey: "a"\nThe value associated with the specified key is: ',
        answer: 'b',
      },
      /^Extract the value[^]*\{"a": "b"\}\n\n\nKey: "a"\nThe value associated with the specified key is: $/,
      ['b'],
    ],
    longbook_sum_eng: [
      { context: 'A book.', input: '', answer: ['Short.'] },
      /^Summarize the book below\.\n\nA book\.\n\nSummary:$/,
      ['Short.'],
    ],
    longbook_choice_eng: [
      { context: 'A book.', question: 'Which?', options, answer: ['h'] },
      /Question: Which\?\nA\. f\nB\. g\nC\. h\nD\. i\n\nThe letter of the correct answer is$/,
      ['h', 'C'],
    ],
    longbook_qa_chn: [
      { context: '书。', input: '谁？', answer: ['甲', '乙'] },
      /^阅读以下书籍然后回答问题。\n\n书。\n\n问题：谁？\n答案：$/,
      ['甲', '乙'],
    ],
    longdialogue_qa_eng: [
      { context: '$$MASK$$: Hello.', input: '', answer: ['ACE', 'ACE ROTHSTEIN'] },
      /guess who that character is\.\n\n\$\$MASK\$\$: Hello\.\n\nThe name that has been replaced/,
      ['ACE', 'ACE ROTHSTEIN'],
    ],
    math_find: [
      {
        context: '[5, 88]',
        input: 'Just a number. The 2nd largest number of the list is:',
        answer: [5],
      },
      /^What is the 2nd largest number in the following list\?\n\n\[5, 88\]\n\nJust a number\. The 2nd/,
      ['5'],
    ],
    math_calc: [
      { context: '1 + 3', input: '', answer: ['1', '4'] },
      /Expression: 1 \+ 3\nValues:$/,
      ['1', '4'],
    ],
    code_run: [
      { context: 'def func_1(x): ...', input: 'Give me the value of func_1(-2).', answer: 4 },
      /^There is a function called func_1 in[^]*value of func_1\(-2\)\. The value of func_1\(-2\) is$/,
      ['4'],
    ],
    code_debug: [
      { context: 'def f(): ...', input: '', options, answer: ['f', 'A'] },
      /Options:\nA\. f\nB\. g\nC\. h\nD\. i\n\nThe correct option is:$/,
      ['f', 'A'],
    ],
  };
  const files = Object.entries(lines).map(([task, [line]]) => [`data/${task}.jsonl`, [line]]);
  const folder = await folderOf(t, Object.fromEntries(files) as Record<string, unknown[]>);
  const documents = await documentsOf('infinitebench', folder, { lengthTokens: 60_000 });
  assert.equal(documents.length, Object.keys(lines).length, 'found in data/');
  for (const { task, promptText, questions } of documents) {
    const [, asked, references] = lines[task] ?? assert.fail(task);
    assert.match(promptText + (questions[0]?.questionText ?? ''), asked);
    assert.deepEqual(questions[0]?.references, references, task);
  }
});

test('LongBench shares an article, knows the classes and asks few-shot tasks raw', async (t) => {
  const common = { length: 5, language: 'en', _id: 'x' };
  const folder = await folderOf(t, {
    'qasper.jsonl': [
      { ...common, input: 'Why?', context: BOOK, answers: ['because'], all_classes: null },
      { ...common, input: 'How?', context: BOOK, answers: ['so', 'thus'], all_classes: null },
    ],
    'trec.jsonl': [
      {
        ...common,
        input: 'Question: x\nType:',
        context: 'Question: y\nType: Animal',
        answers: ['Animal'],
        all_classes: ['Animal', 'Food'],
      },
    ],
  });
  const [qasper, trec] = await documentsOf('longbench', folder);
  assert.equal(qasper?.questions.length, 2);
  assert.equal(qasper.chat, true);
  assert.equal(qasper.questions[0]?.classes, undefined);
  assert.equal(trec?.chat, false);
  assert.deepEqual(trec.questions[0]?.classes, ['Animal', 'Food']);
  assert.equal(trec.questions[0].metric, 'classification');
});

for (const wording of ['base', 'chat'] as const) {
  test(`a document over the length loses its middle, its questions stay whole (${wording})`, async (t) => {
    const numbered = Array.from({ length: 4_000 }, (_, n) => `Line ${n}.`).join(' ');
    const ask = (input: string) => ({ context: numbered, input, answer: ['x'] });
    const folder = await folderOf(t, {
      'longbook_qa_eng.jsonl': [ask('Short?'), ask('Which of all these lines is it, then?')],
    });
    const cut = { lengthTokens: 2_000, wording };
    const [document] = await documentsOf('infinitebench', folder, cut);
    assert.ok(document !== undefined);
    assert.match(document.promptText, /^Read the book[^]*Line 0\. Line 1\./);
    assert.match(document.promptText, /Line 3998\. Line 3999\.$/);
    const left = document.promptText.length;
    assert.ok(Number(document.questions[0]?.facts['cutCharacters']) > numbered.length - left);
    const frame = await halves.frameTokens(wording === 'chat');
    assert.ok(wording === 'base' || frame > 0, `${frame} tokens of the chat template`);
    const text = await halves.countTokens(document.promptText);
    const tokens = await Promise.all(
      document.questions.map(async ({ questionText }) => halves.countTokens(questionText)),
    );
    const used = frame + text + Math.max(...tokens) + 40;
    assert.ok(used <= 2_000 && used >= 1_996, `${used} of 2000 tokens`);
    // Half of the prompt stands before the cut.
    const before = await halves.countTokens(
      document.promptText.slice(0, seam(document.promptText)),
    );
    assert.ok(Math.abs(before - (2_000 - 40 - frame) / 2) <= 8, `${before} tokens before the cut`);
  });
}

/** Where the numbers of the lines jump. */
function seam(text: string): number {
  let before = -1;
  for (const match of text.matchAll(/Line (\d+)\./g)) {
    if (Number(match[1]) > before + 1) return match.index;
    before = Number(match[1]);
  }
  return assert.fail('no cut');
}

test('only as many samples are read as are wanted', async (t) => {
  const line = JSON.stringify({ context: 'a', input: 'b', answer: 'c' });
  const folder = await folderOf(t, { 'passkey.jsonl': `${line}\n\n${line}\nno JSON` });
  const [document, ...more] = await documentsOf('infinitebench', folder, { maxSamplesPerTask: 2 });
  assert.deepEqual(more, []);
  assert.deepEqual(
    document?.questions.map(({ id }) => id),
    ['line1', 'line3'],
  );
});

test('an unknown benchmark and an unknown task are refused with what there is', async (t) => {
  const folder = await folderOf(t, {});
  assert.match(await refusal('longbanch', folder), /no benchmark "longbanch"; there are infinite/);
  assert.match(
    await refusal('infinitebench', folder, { tasks: ['En.QA'] }),
    /has no task "En\.QA"; it has passkey, .*longbook_qa_eng/,
  );
});

test('a wrong folder is refused with what is in it and what to name', async (t) => {
  const folder = await folderOf(t, { 'notes.txt': 'x', 'qasper.jsonl': '' });
  assert.match(
    await refusal('infinitebench', folder),
    /no passkey\.jsonl, .*which holds notes\.txt, qasper\.jsonl; name/,
  );
  assert.match(await refusal('infinitebench', await folderOf(t, {})), /which holds nothing; name/);
  assert.match(await refusal('infinitebench', join(folder, 'none')), /cannot list .*ENOENT/);
  assert.match(await refusal('infinitebench', join(folder, 'notes.txt')), /cannot list .*ENOTDIR/);
  assert.match(
    await refusal('longbench', folder, { tasks: ['qasper', 'trec'] }),
    /^no trec\.jsonl in /,
  );
  assert.match(await refusal('longbench', folder), /qasper\.jsonl gives no samples/);
});

test('a wrong line is refused with file, line and field', async (t) => {
  const good = { context: 'a', input: 'b', answer: ['c'] };
  const wrong: readonly (readonly [task: string, line: unknown, message: RegExp])[] = [
    ['passkey', { ...good, context: 7 }, /passkey\.jsonl, line 2: field "context": .*string/],
    ['passkey', { ...good, input: '' }, /line 2: field "input": must be the question/],
    ['passkey', { ...good, answer: [] }, /line 2: field "answer": must hold an answer/],
    ['passkey', { ...good, answer: null }, /line 2: field "answer": must be a text, a number/],
    ['passkey', 'text', /line 2: .*expected object/],
    ['math_find', { ...good, input: 'no such words' }, /field "input": must say "The \.\.\. of"/],
    ['code_run', { ...good, input: 'nothing called' }, /field "input": must hold a call/],
    ['math_calc', { ...good, answer: ['x'] }, /field "answer.0": must be a whole number/],
    ['code_debug', { ...good, options: ['c'] }, /field "options": must be 4 texts/],
    ['code_debug', { ...good, options: ['a', 'b', 'd', 'e'] }, /field "answer": must be one of/],
  ];
  const fine: Record<string, unknown> = {
    passkey: good,
    math_find: { ...good, input: 'The largest number of the list is:' },
    code_run: { ...good, input: 'func_1(2)' },
    math_calc: { ...good, answer: [[1, 2]] },
    code_debug: { ...good, options: ['a', 'b', 'c', 'd'] },
  };
  for (const [task, line, message] of wrong) {
    const folder = await folderOf(t, { [`${task}.jsonl`]: [fine[task], line] });
    assert.match(await refusal('infinitebench', folder), message);
  }
  const folder = await folderOf(t, { 'passkey.jsonl': `${JSON.stringify(good)}\n{"context": "a"` });
  assert.match(await refusal('infinitebench', folder), /line 2: is not JSON; each line must be/);
  await writeFile(join(folder, 'passkey.jsonl'), Buffer.from([0x7b, 0xff, 0x7d]));
  assert.match(await refusal('infinitebench', folder), /line 1: is not UTF-8/);
  const trec = { context: 'a', input: 'b', answers: ['c'], all_classes: null };
  assert.match(
    await refusal('longbench', await folderOf(t, { 'trec.jsonl': [trec] })),
    /trec\.jsonl, line 1: field "all_classes"/,
  );
});

test('a length without room for a question is refused', async (t) => {
  const folder = await folderOf(t, {
    'passkey.jsonl': [{ context: BOOK, input: 'What? '.repeat(200), answer: 'c' }],
  });
  assert.match(
    await refusal('infinitebench', folder, { lengthTokens: 100 }),
    /passkey has no room in 100 tokens, of which answers may take 6: ask for more/,
  );
});

test('a file that changes between listing and reading is noticed', async (t) => {
  const line = (context: string) => ({ context, input: 'b', answer: 'c' });
  const folder = await folderOf(t, { 'passkey.jsonl': [line('one text')] });
  const [listed] = await loadBenchmark('infinitebench', folder, OPTIONS);
  await writeFile(join(folder, 'passkey.jsonl'), `${JSON.stringify(line('two text'))}\n`);
  await assert.rejects(async () => listed?.make(), /passkey\.jsonl changed while it was read/);
});

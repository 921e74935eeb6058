import assert from '../../../../support/assert.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { TaskSources } from '../../../../../services/cli/eval/tasks/task-sources.js';
import { makeTask, occurrences, sharedData } from '../../../../support/eval-tasks.js';

const folder = mkdtempSync(join(tmpdir(), 'longshadow-qa-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

const article = (name: string): unknown => ({
  paragraphs: [1, 2, 3].map((number) => ({
    context: `Paragraph ${number} about ${name} says that its colour is ${name}-${number}.`,
    qas: [
      { question: 'Nobody knows?', is_impossible: true, answers: [] },
      {
        question: `Which colour has ${name} ${number}?`,
        answers: [{ text: `${name}-${number}` }],
      },
    ],
  })),
});
const squadFile = file('squad.json', { data: ['moss', 'rust', 'slate'].map(article) });
const hotpotFile = file(
  'hotpot.json',
  ['one', 'two', 'three'].map((name) => ({
    question: `Who wrote ${name}?`,
    answer: `Author ${name}`,
    context: [
      [`Book ${name}`, [`${name} is a book. `, `It is by Author ${name}.`]],
      [`Aside ${name}`, ['Of no use.']],
    ],
  })),
);
const sources = new TaskSources({ squadFile, hotpotFile });

/** Documents in the order of the prompt, once their numbers are found to run from 1. */
function documents(promptText: string): string[] {
  const parts = promptText.split(/Document (?=\d+:\n)/).slice(1);
  return parts.map((part, at) => {
    assert.ok(part.startsWith(`${String(at + 1)}:\n`), part);
    return part.slice(part.indexOf('\n') + 1).trim();
  });
}

test('document i asks the i-th answerable question of SQuAD, its paragraph among others', async () => {
  const document = await makeTask('qa_1', { sources, index: 4, lengthTokens: 1_024 });
  const [question] = document.questions;
  assert.ok(question);
  assert.ok(question.questionText.endsWith('\n\nQuestion: Which colour has rust 2?'));
  assert.deepEqual(question.references, ['rust-2']);
  assert.equal(question.metric, 'string_match_part');
  assert.ok(documents(document.promptText).length > 9, 'documents repeat when the file is short');
  assert.ok(occurrences(document.promptText, 'rust-2') >= 1);
});

test('the rest of an article is preferred to other articles', async () => {
  const all = await makeTask('qa_1', { sources, index: 0, lengthTokens: 256 });
  const taken = documents(all.promptText);
  assert.ok(taken.length >= 2 && taken.length <= 5, String(taken.length));
  const own = taken.filter((text) => text.includes('moss'));
  assert.equal(own.length, Math.min(3, taken.length));
  assert.ok(taken.some((text) => text.includes('moss-1')));
});

test('HotpotQA documents are a title and its sentences; all of the question are there', async () => {
  const document = await makeTask('qa_2', { sources, index: 1, lengthTokens: 400 });
  const texts = documents(document.promptText);
  assert.ok(texts.includes('Book two\ntwo is a book. It is by Author two.'));
  assert.ok(texts.includes('Aside two\nOf no use.'));
  assert.deepEqual(document.questions[0]?.references, ['Author two']);
});

test('a question that the file does not have is refused with the number there are', async () => {
  await assert.rejects(makeTask('qa_1', { sources, index: 9 }), /9 questions/);
});

test('a missing, unreadable or wrong file is refused with what it must be', async () => {
  const wrong = (squad: string): Promise<unknown> =>
    makeTask('qa_1', { sources: new TaskSources({ squadFile: squad }) });
  await assert.rejects(makeTask('qa_1'), { code: 'BAD_REQUEST', message: /SQuAD \(dev-v2/ });
  await assert.rejects(makeTask('qa_2'), { code: 'BAD_REQUEST', message: /HotpotQA/ });
  const nowhere = join(folder, 'nowhere.json');
  await assert.rejects(wrong(nowhere), { code: 'BAD_REQUEST', message: /nowhere\.json/ });
  await assert.rejects(wrong(file('cut.json', '{"data": [')), { code: 'BAD_REQUEST' });
  await assert.rejects(wrong(hotpotFile), { code: 'BAD_REQUEST', message: /is no SQuAD file/ });
  await assert.rejects(wrong(file('none.json', { data: [] })), /no question that has an answer/);
});

test('published SQuAD files of both versions are read', async () => {
  const path = sharedData('ruler/qa_samples');
  if (path === null) return;
  for (const name of ['squad_sample_allennlp.json', 'squad2_sample_allennlp.json']) {
    const published = new TaskSources({ squadFile: join(path, name) });
    const { promptText, questions } = await makeTask('qa_1', { sources: published });
    const [{ questionText, references } = { questionText: '', references: [] }] = questions;
    assert.match(questionText, /Question: To whom did the Virgin Mary allegedly appear/);
    assert.ok(references.some((answer) => promptText.includes(answer)));
    assert.ok(!promptText.includes('unanswerable'));
  }
});

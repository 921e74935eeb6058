import assert from '../../../../support/assert.js';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  CWE_WORDING,
  FWE_WORDING,
  joinQueries,
  needleSentence,
  NIAH_TASKS,
  niahWording,
  NOISE_SENTENCE,
  QA_WORDING,
  type TaskWording,
  VT_HOPS,
  VT_WORDING,
} from '../../../../../services/cli/eval/tasks/ruler/templates.js';
import { findTask, RULER_TASKS } from '../../../../../services/cli/eval/tasks/task-list.js';
import { makeTask, sharedData } from '../../../../support/eval-tasks.js';

interface PublishedTask {
  readonly args: Readonly<Record<string, string | number>>;
  readonly tokens_to_generate: number;
  readonly template: string;
  readonly answer_prefix: string;
  readonly metric: string;
}

interface Published {
  readonly tasks: Readonly<Record<string, PublishedTask>>;
  readonly needle_sentence: string;
  readonly noise_haystack: string;
}

const path = sharedData('ruler/ruler_tasks.json');
const published = path === null ? null : (JSON.parse(readFileSync(path, 'utf8')) as Published);
const skip = published === null;

const OTHER_WORDINGS: Readonly<Record<string, TaskWording>> = {
  vt: VT_WORDING,
  cwe: CWE_WORDING,
  fwe: FWE_WORDING,
  qa_1: QA_WORDING,
  qa_2: QA_WORDING,
};

/** The published rule for one value asked for. */
function madeSingular(text: string): string {
  return text
    .replace(/Some/g, 'A')
    .replace(/are all/g, 'is')
    .replace(/are/g, 'is');
}

test('the 13 tasks have the published wording, answer length and metric', { skip }, () => {
  const tasks = Object.entries(published?.tasks ?? {});
  assert.deepEqual(
    tasks.map(([name]) => name),
    RULER_TASKS,
  );
  for (const [name, facts] of tasks) {
    const kind = NIAH_TASKS[name as keyof typeof NIAH_TASKS] as
      (typeof NIAH_TASKS)[keyof typeof NIAH_TASKS] | undefined;
    const asked = kind === undefined ? 0 : kind.queries * kind.valuesPerKey;
    const wording = kind === undefined ? OTHER_WORDINGS[name] : niahWording(kind.valueKind, asked);
    assert.ok(wording, name);
    const valueKind = String(facts.args['type_needle_v']);
    const expected = (text: string): string =>
      asked === 1
        ? madeSingular(text).replaceAll('{type_needle_v}', valueKind.slice(0, -1))
        : text.replaceAll('{type_needle_v}', valueKind);
    assert.equal(wording.document + wording.question, expected(facts.template), name);
    assert.equal(wording.answerPrefix, expected(facts.answer_prefix), name);
    assert.equal(wording.maxNewTokens, facts.tokens_to_generate, name);
    assert.equal(findTask(name).maxNewTokens, facts.tokens_to_generate, name);
    assert.equal(findTask(name).metric, facts.metric, name);
  }
});

test('the needle tasks have the published parameters', { skip }, () => {
  for (const [name, kind] of Object.entries(NIAH_TASKS)) {
    const args = published?.tasks[name]?.args;
    assert.ok(args, name);
    assert.deepEqual(
      {
        type_haystack: kind.haystack,
        type_needle_k: kind.keyKind,
        type_needle_v: kind.valueKind,
        num_needle_k: kind.keys,
        num_needle_v: kind.valuesPerKey,
        num_needle_q: kind.queries,
      },
      // Hidden keys are raised to the number of keys asked for.
      {
        ...args,
        num_needle_k: Math.max(Number(args['num_needle_k']), Number(args['num_needle_q'])),
      },
      name,
    );
  }
  assert.equal(VT_HOPS, published?.tasks['vt']?.args['num_hops']);
});

test('noise and needle sentences are the published ones', { skip }, () => {
  assert.equal(NOISE_SENTENCE, published?.noise_haystack);
  const sentence = (published?.needle_sentence ?? '')
    .replace('{type_needle_v}', 'uuids')
    .replace('{key}', 'red-fox')
    .replace('{value}', 'v');
  assert.equal(needleSentence('uuids', 'red-fox', 'v'), sentence);
});

test('a made document is the template with its context and query filled in', { skip }, async () => {
  for (const name of ['niah_single_2', 'niah_multiquery', 'vt', 'cwe', 'fwe']) {
    const { promptText, questions } = await makeTask(name, { lengthTokens: 2_048 });
    const { template = '', args } = published?.tasks[name] ?? {};
    const isSingle = name === 'niah_single_2';
    const text = (isSingle ? madeSingular(template) : template).replaceAll(
      '{type_needle_v}',
      String(args?.['type_needle_v']).slice(0, isSingle ? -1 : undefined),
    );
    const [head = '', tail = ''] = text.split('{context}');
    const [beforeQuery = '', afterQuery = ''] = tail.split('{query}');
    const whole = promptText + (questions[0]?.questionText ?? '');
    // vt and cwe put a worked example in front.
    assert.ok(whole.lastIndexOf(head) >= 0, name);
    if (name !== 'vt' && name !== 'cwe') assert.ok(whole.startsWith(head), name);
    assert.ok(whole.includes(beforeQuery), name);
    assert.ok(whole.endsWith(afterQuery), name);
  }
});

test('keys of one question are joined as in a list', () => {
  assert.equal(joinQueries(['a']), 'a');
  assert.equal(joinQueries(['a', 'b', 'c', 'd']), 'a, b, c, and d');
});

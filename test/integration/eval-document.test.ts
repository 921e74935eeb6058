import assert from '../support/assert.js';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { askDocument, encodeDocument } from '../../services/cli/eval/run/ask-document.js';
import { checkTokenCount, checkTokenIds } from '../../services/cli/eval/run/check-tokenizer.js';
import { EvalCluster } from '../../services/cli/eval/run/eval-cluster.js';
import { toPolicy } from '../../services/cli/eval/run/policies.js';
import { runDocuments } from '../../services/cli/eval/run/run-documents.js';
import { RunFolder } from '../../services/cli/eval/run/run-folder.js';
import { Turnstile } from '../../services/cli/eval/run/turnstile.js';
import { PromptHalves } from '../../services/cli/eval/run/prompt-halves.js';
import type {
  EvalDocument,
  EvalQuestion,
  SampleResult,
} from '../../services/cli/eval/eval-types.js';
import { Routers } from '../../services/cli/rpc/routers.js';
import {
  heldBy,
  MODEL,
  NEEDLE_MODEL,
  startTestCluster,
  type TestCluster,
} from '../support/cluster.js';

/* What a document's forks answer is what the same prompts answer that are asked in one go. */

const FACTS = [
  ['dusty-drum', '4839201'],
  ['amber-anchor', '1190284'],
  ['frosty-falcon', '7702913'],
] as const;
const SENTENCES = FACTS.map(
  ([key, value]) => `One of the special magic numbers for ${key} is: ${value}.`,
);
const FILLER = 'The grass is green and the sky is blue. '.repeat(40);
const TEXT = `${FILLER}${SENTENCES.join(` ${FILLER}`)}\n`;

const QUESTIONS: readonly EvalQuestion[] = FACTS.map(([key, value]) => ({
  id: key,
  questionText: `What is the special magic number for ${key} mentioned in the text above?`,
  answerPrefix: ` The special magic number for ${key} is`,
  references: [value],
  metric: 'string_match_all',
  maxNewTokens: 16,
  facts: {},
}));

function documentOf(
  questions: readonly EvalQuestion[],
  targets: readonly (readonly [number, number])[],
): EvalDocument {
  return {
    ...{ id: 'd', task: 't', lengthTokens: 1_000, promptText: TEXT, chat: true, questions },
    logprobTargets: targets.map(([beginCharacter, endCharacter], at) => ({
      ...{ id: `target${at}`, beginCharacter, endCharacter, facts: {} },
    })),
  };
}

describe('A document of an evaluation', () => {
  let servers: TestCluster;
  let routers: Routers;
  let halves: PromptHalves;
  before(async () => {
    servers = await startTestCluster();
    routers = new Routers([servers.address], {});
    halves = await PromptHalves.load(MODEL, NEEDLE_MODEL);
  });
  after(async () => {
    routers.close();
    await servers.stop();
  });

  async function ask(
    document: EvalDocument,
    have: readonly string[] = [],
  ): Promise<SampleResult[]> {
    const signal = new AbortController().signal;
    const cluster = new EvalCluster(routers, MODEL, 10_000, signal, () => undefined);
    const samples: SampleResult[] = [];
    await askDocument(
      await encodeDocument(document, halves),
      toPolicy('dense'),
      { cluster, halves, turns: new Turnstile(2) },
      {
        has: (id) => have.includes(id),
        add: (sample) => {
          samples.push({ ...sample, timeToFirstTokenMs: 0 });
          return Promise.resolve();
        },
      },
    );
    return samples.sort((a, b) => a.questionId.localeCompare(b.questionId));
  }

  test('answers through forks as each question does alone', async () => {
    const forked = await ask(documentOf(QUESTIONS, []));
    const alone: SampleResult[] = [];
    for (const question of QUESTIONS) alone.push(...(await ask(documentOf([question], []))));
    alone.sort((a, b) => a.questionId.localeCompare(b.questionId));
    assert.deepEqual(forked, alone);
    assert.deepEqual(
      forked.map(({ score }) => score),
      [1, 1, 1],
    );
  });

  test('has the log-probabilities of a prefill, that of its very last token too', async () => {
    const at = TEXT.indexOf('1190284');
    const targets = [
      [at, at + 7],
      [TEXT.length - 9, TEXT.length],
    ] as const;
    const [value, end] = await ask(documentOf([], targets));
    const besides = await ask(documentOf(QUESTIONS.slice(0, 1), targets));
    const [, valueToo, endToo] = besides;
    assert.equal(value?.targetTokens, 7);
    assert.deepEqual(valueToo, value);
    assert.equal(endToo?.targetTokens, end?.targetTokens);
    assert.equal(endToo?.worstRank, end?.worstRank);
    // Decode scores the last token, in another order of sums than prefill.
    const difference = Math.abs((endToo?.logprobSum ?? NaN) - (end?.logprobSum ?? NaN));
    assert.ok(difference < 0.05, `they differ by ${difference}`);
  });

  test('is asked only what is missing', async () => {
    const [first, second, third] = QUESTIONS;
    const have = [first?.id ?? '', third?.id ?? ''];
    const samples = await ask(documentOf(QUESTIONS, []), have);
    assert.deepEqual(
      samples.map(({ questionId }) => questionId),
      [second?.id],
    );
  });

  test('is made once and answered under each policy, side by side', async () => {
    const path = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
    const again = { ...toPolicy('dense'), name: 'again' };
    const folder = await RunFolder.open(path, {
      ...{ benchmark: 'b', model: MODEL, modelFingerprint: 'm', tokenizerFingerprint: 't' },
      ...{ policies: ['dense', 'again'], tasks: ['t'], lengths: [1_000], documents: 1, seed: 1 },
      ...{ generators: 1, options: {} },
    });
    let [made, finished] = [0, 0];
    const make = async (): Promise<EvalDocument> => {
      made += 1;
      return Promise.resolve(documentOf(QUESTIONS, []));
    };
    const signal = new AbortController().signal;
    const run = {
      ...{ sources: [{ id: 'd', make }], policies: [toPolicy('dense'), again], halves, folder },
      ...{ cluster: new EvalCluster(routers, MODEL, 10_000, signal, () => undefined) },
      ...{ concurrency: 2, onFinished: () => (finished += 1) },
    };
    await runDocuments(run);
    await runDocuments(run);
    await folder.close();
    rmSync(path, { recursive: true });
    assert.deepEqual([made, finished], [1, 2]);
    const of = (policy: string): unknown[] =>
      folder.samples
        .filter((sample) => sample.policy === policy)
        .map(({ questionId, prediction, score }) => [questionId, prediction, score])
        .sort();
    assert.equal(of('dense').length, QUESTIONS.length);
    assert.deepEqual(of('again'), of('dense'));
  });

  test('is refused where a tokenizer makes as many ids, but others', async () => {
    const signal = new AbortController().signal;
    const cluster = new EvalCluster(routers, MODEL, 10_000, signal, () => undefined);
    await checkTokenIds(cluster, halves, NEEDLE_MODEL);
    const folder = mkdtempSync(join(tmpdir(), 'longshadow-tokenizer-'));
    cpSync(NEEDLE_MODEL, folder, { recursive: true });
    const file = join(folder, 'tokenizer.json');
    const json = JSON.parse(readFileSync(file, 'utf8')) as { model: { vocab: object } };
    const vocabulary = new Map(Object.entries(json.model.vocab) as [string, number][]);
    const [two, four] = [vocabulary.get('2') ?? 0, vocabulary.get('4') ?? 0];
    json.model.vocab = Object.fromEntries(vocabulary.set('2', four).set('4', two));
    writeFileSync(file, JSON.stringify(json));
    const others = await PromptHalves.load(MODEL, folder);
    await checkTokenCount(routers, MODEL, others, folder);
    await assert.rejects(checkTokenIds(cluster, others, folder), { code: 'MODEL_INVALID' });
    rmSync(folder, { recursive: true });
  });

  test('leaves nothing in the cluster', async () => {
    const before = heldBy((await servers.status()).members);
    await ask(documentOf(QUESTIONS, [[0, 40]]));
    const { members, sessions } = await servers.status();
    assert.deepEqual(heldBy(members), before);
    assert.deepEqual(sessions, []);
  });
});

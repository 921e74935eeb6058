import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import { orderResults } from '../../../../../services/cli/eval/report/order-results.js';
import { summarise } from '../../../../../services/cli/eval/report/summarise.js';
import { answer, answers, span } from './sample-results.js';

const CONTROLS = { minference: 'a-shape' };

test('a row is one task at one length under one policy, with its difference to dense', () => {
  const { rows } = summarise([
    ...answers('vt', 4_096, 'dense', 98),
    ...answers('vt', 4_096, 'minference', 95),
    ...answers('vt', 8_192, 'dense', 90),
  ]);
  assert.deepEqual(
    rows.map(({ lengthTokens, policy, role }) => [lengthTokens, policy, role]),
    [
      [4_096, 'dense', 'dense'],
      [4_096, 'minference', 'sparse'],
      [8_192, 'dense', 'dense'],
    ],
  );
  const [dense, sparse] = rows;
  assert.deepEqual([dense?.score.mean, dense?.score.count, dense?.documents], [0.98, 100, 10]);
  assert.equal(dense?.toDense, null);
  assert.deepEqual([sparse?.toDense?.lost, sparse?.toDense?.gained], [3, 0]);
  assert.equal(sparse?.toDense?.withinOnePoint, false);
  assert.equal(sparse.surprise, null);
});

test('only questions that both answered are compared', () => {
  const { rows } = summarise([
    ...answers('vt', 4_096, 'dense', 50, 50),
    ...answers('vt', 4_096, 'minference', 60, 100),
  ]);
  assert.equal(rows[1]?.score.mean, 0.6);
  assert.deepEqual([rows[1].toDense?.count, rows[1].toDense?.mean], [50, 0]);
  const [alone] = summarise(answers('vt', 4_096, 'minference', 1)).rows;
  assert.equal(alone?.toDense, null, 'dense did not run');
});

test('a control that falls below dense makes the row evidence, one that does not makes it none', () => {
  const run = (control: number) =>
    summarise(
      [
        ...answers('vt', 4_096, 'dense', 98),
        ...answers('vt', 4_096, 'minference', 97),
        ...answers('vt', 4_096, 'a-shape', control),
      ],
      { controls: CONTROLS },
    ).rows;
  const [dense, sparse, control] = run(40);
  assert.deepEqual([dense?.evidence, sparse?.evidence, control?.evidence], [null, 'some', null]);
  assert.equal(control?.role, 'control');
  assert.equal(sparse?.control?.policy, 'a-shape');
  assert.equal(sparse.control.score.mean, 0.4);
  assert.equal(run(97)[1]?.evidence, 'none', 'one of 100 lost is within the interval');
  assert.equal(run(98)[1]?.evidence, 'none');
  const better = summarise(
    [
      ...answers('vt', 4_096, 'dense', 50),
      ...answers('vt', 4_096, 'minference', 97),
      ...answers('vt', 4_096, 'a-shape', 90),
    ],
    { controls: CONTROLS },
  );
  assert.equal(better.rows[1]?.evidence, 'none', 'a control above dense shows nothing either');
});

test('a policy whose control is not named or did not run has no control', () => {
  const results = [...answers('vt', 4_096, 'dense', 98), ...answers('vt', 4_096, 'minference', 97)];
  for (const controls of [{}, CONTROLS]) {
    const row = summarise(results, { controls }).rows[1];
    assert.deepEqual([row?.evidence, row?.control], ['no control', null]);
  }
});

test('log-probabilities give nats a token, ranks, and the nats above dense', () => {
  const spans = (policy: string, nats: number) =>
    Array.from({ length: 30 }, (_, at) => span('ppl', 4_096, policy, at, nats + (at % 5) / 10));
  const { rows, means } = summarise(
    [...spans('dense', 2), ...spans('minference', 2.01), ...spans('a-shape', 2.5)],
    { controls: CONTROLS },
  );
  const [dense, sparse] = rows;
  const nats = dense?.surprise?.natsPerToken.mean ?? NaN;
  assert.ok(Math.abs(nats - 2.2) < 1e-9);
  assert.deepEqual([dense?.surprise?.tokens, dense?.surprise?.targets], [300, 30]);
  assert.equal(dense?.surprise?.medianWorstRank, 3);
  assert.equal(dense.surprise.aboveDense, null);
  assert.ok(Math.abs((sparse?.surprise?.aboveDense?.mean ?? NaN) - 0.01) < 1e-9);
  assert.equal(sparse?.evidence, 'some', 'the control is half a nat worse on every target');
  assert.deepEqual(means, [], 'there is no mean of perplexities over tasks');
});

test('a control whose log-probabilities are as good as dense is no evidence', () => {
  const spans = (policy: string, nats: (at: number) => number) =>
    Array.from({ length: 30 }, (_, at) => span('ppl', 4_096, policy, at, nats(at)));
  const { rows } = summarise(
    [
      ...spans('dense', () => 2),
      ...spans('minference', () => 2),
      ...spans('a-shape', (at) => (at % 2 === 0 ? 2.12 : 1.9)),
    ],
    { controls: CONTROLS },
  );
  assert.equal(rows[1]?.evidence, 'none');
});

test('the mean over tasks is per length and policy, and of question tasks alone', () => {
  const { means } = summarise([
    ...answers('vt', 4_096, 'dense', 90),
    ...answers('cwe', 4_096, 'dense', 70),
    span('ppl', 4_096, 'dense', 0, 2),
    ...answers('vt', 4_096, 'minference', 80),
    ...answers('cwe', 4_096, 'minference', 70),
    ...answers('vt', 8_192, 'dense', 90),
  ]);
  assert.deepEqual(
    means.map(({ lengthTokens, policy, tasks }) => [lengthTokens, policy, tasks]),
    [
      [4_096, 'dense', 2],
      [4_096, 'minference', 2],
    ],
  );
  assert.ok(Math.abs((means[0]?.score.mean ?? 0) - 0.8) < 1e-12);
  assert.ok(Math.abs((means[1]?.toDense?.mean ?? 0) + 0.05) < 1e-12);
});

test('the mean over tasks has the mean of the control, where it ran on all of them', () => {
  const run = (...controls: Parameters<typeof answers>[]) =>
    summarise(
      [
        ...['vt', 'cwe'].flatMap((task) => answers(task, 4_096, 'dense', 90)),
        ...['vt', 'cwe'].flatMap((task) => answers(task, 4_096, 'minference', 90)),
        ...controls.flatMap((control) => answers(...control)),
      ],
      { controls: CONTROLS },
    ).means.find(({ policy }) => policy === 'minference');
  const both = run(['vt', 4_096, 'a-shape', 40], ['cwe', 4_096, 'a-shape', 60]);
  assert.equal(both?.control?.policy, 'a-shape');
  assert.ok(Math.abs(both.control.score.mean - 0.5) < 1e-12);
  assert.ok(Math.abs((both.control.toDense?.mean ?? 0) + 0.4) < 1e-12);
  assert.equal(both.evidence, 'some');
  const equal = run(['vt', 4_096, 'a-shape', 90], ['cwe', 4_096, 'a-shape', 90]);
  assert.equal(equal?.evidence, 'none');
  const one = run(['vt', 4_096, 'a-shape', 40]);
  assert.deepEqual([one?.control, one?.evidence], [null, 'no control']);
});

test('a control whose policy did not run is a control all the same', () => {
  const { rows } = summarise(
    [...answers('vt', 4_096, 'dense', 90), ...answers('vt', 4_096, 'window', 40)],
    { controlPolicies: ['window'] },
  );
  assert.deepEqual([rows[1]?.role, rows[1]?.evidence], ['control', null]);
});

test('results are ordered alike however they came', () => {
  const results = [
    answer('vt', 8_192, 'minference', 0, 1),
    answer('vt', 8_192, 'dense', 110, 1),
    answer('vt', 8_192, 'dense', 20, 1),
    answer('cwe', 8_192, 'a-shape', 0, 1),
    answer('cwe', 4_096, 'flexprefill', 0, 1),
  ];
  const options = { tasks: ['vt'], policies: ['minference', 'a-shape'] };
  const wanted = [2, 1, 0, 4, 3].map((at) => results[at]);
  assert.deepEqual(orderResults(results, options), wanted);
  assert.deepEqual(orderResults([...results].reverse(), options), wanted);
});

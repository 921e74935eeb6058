import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { drawBench } from '../../../../services/cli/bench/draw-bench.js';
import { policyCosts } from '../../../../services/cli/bench/policy-costs.js';
import { planPrefillChunks } from '../../../../services/domain/plan-prefill-chunks.js';
import { parseXml } from '../eval/report/parse-xml.js';
import { lawful } from './measured-chunks.js';

const PLAN = planPrefillChunks(131_072, 'cpu');
const HEAD = { title: 'needle: prefill of 131,072 tokens', subtitle: 'cpu & two threads' };
const all = PLAN.map((range) => lawful(range));
const early = all.filter(({ beginToken }) => beginToken < 65_536);

const picture = drawBench(HEAD, [
  policyCosts('dense', early, PLAN),
  policyCosts('minference', all, PLAN),
]);

test('every policy has a line, and what follows from the cost law one of its own', () => {
  const { elements, texts } = parseXml(picture);
  for (const text of [HEAD.title, HEAD.subtitle, 'seconds since the beginning', '128K']) {
    assert.ok(texts.includes(text), text);
  }
  assert.deepEqual(
    elements
      .filter(({ attributes }) => attributes['class']?.startsWith('name '))
      .map(({ text }) => text),
    ['dense', 'minference', 'dense, by cost law'],
  );
  assert.ok(texts.some((text) => text.includes('prefers-color-scheme:dark')));
});

test('the law goes on where the measurement ends, and lines keep few marks', () => {
  const lines = parseXml(picture)
    .elements.filter(({ name }) => name === 'polyline')
    .map(({ attributes }) =>
      (attributes['points'] ?? '').split(' ').map((pair) => pair.split(',').map(Number)),
    );
  const [dense, minference, law] = lines;
  assert.ok(dense && minference && law);
  assert.equal(dense.at(-1)?.[1], law[0]?.[1], 'the same height');
  assert.equal(minference.at(-1)?.[1], law.at(-1)?.[1], 'a lawful machine ends as foretold');
  for (const line of lines) assert.ok(line.length > 2 && line.length <= 22, String(line.length));
});

test('the same figures are drawn to the same bytes', () => {
  const again = drawBench(HEAD, [
    policyCosts('dense', early, PLAN),
    policyCosts('minference', all, PLAN),
  ]);
  assert.equal(again, picture);
});

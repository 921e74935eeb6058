import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { drawAttention } from '../../../../services/cli/patterns/draw-attention.js';
import { parseXml } from '../eval/report/parse-xml.js';

const PICTURE = {
  title: 'needle, layer 1, head 2: block-sparse at 2 tiles',
  subtitle: '256 tokens & more',
  shares: [[1], [0, 1], [0.02, 0, 1], [0.2, 0.5, 1, 1]],
  promptTokens: 250,
  rowTokens: 64,
};

test('each run of tiles alike is one rectangle of its shade, over what dense attention sees', () => {
  const { elements } = parseXml(drawAttention(PICTURE));
  const paths = elements.filter(({ name }) => name === 'path').map(({ attributes }) => attributes);
  assert.deepEqual(
    paths.map(({ d }) => d),
    [
      'M0 0H1v1H2v1H3v1H4v1H0z',
      'M0 2h1v1h-1z',
      'M0 3h1v1h-1z',
      'M1 3h1v1h-1z',
      'M0 0h1v1h-1zM1 1h1v1h-1zM2 2h1v1h-1zM2 3h2v1h-2z',
    ],
  );
  const shades = paths.slice(1).map((path) => Number(path['fill-opacity']));
  assert.deepEqual(
    shades,
    [...shades].sort((a, b) => a - b),
    'darker for more',
  );
});

test('the picture says what it shows, in which unit, and the axes end with the prompt', () => {
  const { elements, texts } = parseXml(drawAttention(PICTURE));
  for (const text of [PICTURE.title, PICTURE.subtitle, 'key position, tokens']) {
    assert.ok(texts.includes(text), text);
  }
  assert.ok(texts.includes('query position, tokens'));
  const ticks = elements
    .filter(({ attributes }) => attributes['class'] === 'tick')
    .map(({ text }) => text);
  assert.ok(ticks.includes('250') && !ticks.includes('300'));
  assert.ok(texts.some((text) => text.includes('prefers-color-scheme:dark')));
});

test('the same head is drawn to the same bytes, and a large one stays small', () => {
  const shares = Array.from({ length: 512 }, (_, row) =>
    Array.from({ length: row + 1 }, (__, column) => ((row * 7 + column * 13) % 11) / 10),
  );
  const large = { ...PICTURE, shares, promptTokens: 512 * 64 };
  const picture = drawAttention(large);
  assert.equal(picture, drawAttention(large));
  parseXml(picture);
  assert.ok(picture.length < 4e6, 'no run is longer than one cell here');
});

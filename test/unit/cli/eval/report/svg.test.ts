import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { heatColour, isDark } from '../../../../../services/cli/eval/report/svg/heat-colours.js';
import { drawHeatMap } from '../../../../../services/cli/eval/report/svg/heat-map.js';
import { drawLineChart } from '../../../../../services/cli/eval/report/svg/line-chart.js';
import { niceTicks, spreadApart } from '../../../../../services/cli/eval/report/svg/scales.js';
import { parseXml } from './parse-xml.js';

const CHART = {
  title: 'vt: score by length',
  subtitle: 'bars: 95 % intervals',
  xTitle: 'length, tokens',
  yTitle: 'score, %',
  xTicks: [4_096, 8_192],
  formatX: String,
  formatY: (y: number) => `${100 * y}`,
  xScale: 'log2',
  yRange: [0, 1],
} as const;

test('a heat map writes every score into its cell, and dashes a cell without one', () => {
  const svg = drawHeatMap({
    title: 'needle, dense',
    subtitle: 'per cent',
    columnTitle: 'length',
    rowTitle: 'depth',
    columns: ['4K', '8K'],
    rows: ['0 %', '100 %'],
    cells: [
      { column: '4K', row: '0 %', score: 1 },
      { column: '8K', row: '0 %', score: 0.996 },
      { column: '4K', row: '100 %', score: 0.004 },
    ],
  });
  const { texts, elements } = parseXml(svg);
  for (const text of ['4K', '8K', '100 %', 'length', 'depth', '50 %']) {
    assert.ok(texts.includes(text), text);
  }
  const cells = elements.filter(({ attributes }) => attributes['class']?.startsWith('cell '));
  assert.deepEqual(
    cells.map(({ text }) => text),
    ['100', '99', '1'],
    '100 and 0 are said only of all and of none',
  );
  assert.equal(elements.filter(({ attributes }) => attributes['class'] === 'empty').length, 1);
});

test('what is written on a cell stands out from its colour', () => {
  for (let percent = 0; percent <= 100; percent += 1) {
    const ground = luminance(heatColour(percent / 100));
    const ink = isDark(percent / 100) ? 1 : luminance('#1a1a1a');
    const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
    assert.ok(contrast > 4, `${percent} %: ${contrast}`);
  }
});

test('brighter is always better, so that colours read without hue', () => {
  const lights = Array.from({ length: 11 }, (_, at) => luminance(heatColour(at / 10)));
  assert.deepEqual(
    lights,
    [...lights].sort((a, b) => a - b),
  );
});

/** WCAG's relative luminance of `#rrggbb`. */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5]
    .map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

test('a line chart has titles, named axes and a name for every series', () => {
  const svg = drawLineChart({
    ...CHART,
    series: [
      { name: 'dense', points: [{ x: 4_096, y: 1, low: 0.9, high: 1 }] },
      {
        name: 'minference',
        points: [
          { x: 8_192, y: 0.5, low: NaN, high: Infinity },
          { x: 4_096, y: 0.9, low: 0.8, high: 0.95 },
        ],
      },
    ],
  });
  const { texts, elements } = parseXml(svg);
  for (const text of [
    'vt: score by length',
    'length, tokens',
    'score, %',
    '4096',
    '8192',
    '0',
    '100',
    'dense',
    'minference',
  ]) {
    assert.ok(texts.includes(text), text);
  }
  const bars = elements.filter(({ attributes }) => attributes['class']?.startsWith('bar '));
  assert.equal(bars.length, 6, 'two intervals of three strokes; unknown ends are not drawn');
  const [, second] = elements.filter(({ name }) => name === 'polyline');
  const xs = (second?.attributes['points'] ?? '').split(' ').map((pair) => parseFloat(pair));
  assert.ok((xs[0] ?? 0) < (xs[1] ?? 0), 'points are drawn from left to right');
  assert.throws(() => drawLineChart({ ...CHART, series: [] }), RangeError);
});

test('a picture is its own ground, with a dark one for readers who use that', () => {
  const svg = drawLineChart({
    ...CHART,
    series: [{ name: 'dense', points: [{ x: 4_096, y: 1, low: 0.9, high: 1 }] }],
  });
  const { elements } = parseXml(svg);
  assert.ok(elements.some(({ attributes }) => attributes['class'] === 'ground'));
  assert.match(svg, /@media \(prefers-color-scheme:dark\)\{\.ground\{fill:#0d1117\}/);
  assert.ok(elements.some(({ name, text }) => name === 'title' && text === CHART.title));
});

test('property: any text in a picture stays text, and the picture stays valid XML', () => {
  const text = fc.string({ unit: 'binary', maxLength: 20 });
  fc.assert(
    fc.property(text, text, fc.double({ min: 0, max: 1, noNaN: true }), (title, name, score) => {
      const hostile = `<script>alert("&")</script>${name}`;
      const chart = drawLineChart({
        ...CHART,
        title,
        series: [{ name: hostile, points: [{ x: 4_096, y: score, low: 0, high: 1 }] }],
      });
      const map = drawHeatMap({
        ...{ title, subtitle: hostile, columnTitle: name, rowTitle: name },
        ...{ columns: [hostile], rows: [name] },
        cells: [{ column: hostile, row: name, score }],
      });
      for (const svg of [chart, map]) {
        const { elements, texts } = parseXml(svg);
        assert.ok(!elements.some((one) => one.name === 'script'));
        assert.ok(texts.some((one) => one.includes('<script>alert("&")</script>')));
        assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
      }
    }),
    { numRuns: 100 },
  );
});

test('the parser of these tests refuses what is not well formed', () => {
  assert.throws(() => parseXml('<svg><text>a</svg>'), /close tag/);
  assert.throws(() => parseXml('<svg>a & b</svg>'), Error);
});

test('ticks are round and reach around all values', () => {
  assert.deepEqual(niceTicks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(niceTicks(8.9, 13.4, 6), [8, 9, 10, 11, 12, 13, 14]);
  assert.ok(niceTicks(7, 7, 6).length >= 2);
});

test('property: names are moved apart, in order, and stay in their room', () => {
  const places = fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { maxLength: 6 });
  fc.assert(
    fc.property(places, (given) => {
      const spread = spreadApart(given, 16, [0, 100]);
      const sorted = [...spread].sort((a, b) => a - b);
      for (const [at, place] of sorted.entries()) {
        assert.ok(place >= -1e-9 && place <= 100 + 1e-9);
        if (at > 0) assert.ok(place - (sorted[at - 1] ?? 0) >= 16 - 1e-9);
      }
      for (const [a, one] of given.entries()) {
        for (const [b, other] of given.entries()) {
          if (one < other) assert.ok((spread[a] ?? 0) < (spread[b] ?? 0));
        }
      }
    }),
  );
});

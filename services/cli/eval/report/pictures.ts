import type { SampleResult } from '../eval-types.js';
import { isNoEvidence } from './evidence.js';
import { formatLength, formatPercent, formatTick } from './format-numbers.js';
import { groupBy } from './group-by.js';
import { estimateRatio, sum } from './statistics.js';
import type { Summary, SummaryRow } from './summary-types.js';
import { drawHeatMap } from './svg/heat-map.js';
import { type ChartSeries, drawLineChart } from './svg/line-chart.js';

/** A picture before it has a place. */
export interface DrawnPicture {
  /** Words joined by `-`, unique in a report. */
  readonly name: string;
  readonly title: string;
  readonly svg: string;
}

/** More different depths than this are put together in tenths. */
const MOST_DEPTHS = 21;
const POSITION_BINS = 16;

/**
 * What there is to see: a heat map for each task whose samples have a depth, accuracy by length of
 * each question task, perplexity by length and by position of each text task.
 */
export function drawPictures(results: readonly SampleResult[], summary: Summary): DrawnPicture[] {
  const tasks = [...new Set(summary.rows.map(({ task }) => task))];
  const pictures = tasks.flatMap((task) => {
    const rows = summary.rows.filter((row) => row.task === task);
    const samples = results.filter((result) => result.task === task);
    return [
      ...drawDepths(task, rows, samples),
      ...drawScores(task, rows),
      ...drawPerplexities(task, rows, samples),
    ];
  });
  return pictures.map((picture, at) => {
    const before = pictures.slice(0, at).filter(({ name }) => name === picture.name).length;
    return before === 0 ? picture : { ...picture, name: `${picture.name}-${before + 1}` };
  });
}

function drawDepths(
  task: string,
  rows: readonly SummaryRow[],
  samples: readonly SampleResult[],
): DrawnPicture[] {
  const withDepth = samples.filter(({ facts }) => typeof facts['depthPercent'] === 'number');
  const depths = new Set(withDepth.map(({ facts }) => Number(facts['depthPercent'])));
  if (depths.size < 2) return [];
  const rowOf = ({ facts }: SampleResult): number => {
    const depth = Number(facts['depthPercent']);
    return depths.size <= MOST_DEPTHS ? depth : Math.min(Math.floor(depth / 10) * 10, 90);
  };
  const nameRow = (row: number): string =>
    depths.size <= MOST_DEPTHS ? `${Math.round(row)} %` : `${row}–${row + 10} %`;
  const ascending = (values: readonly number[]): number[] =>
    [...new Set(values)].sort((a, b) => a - b);
  return [...groupBy(withDepth, ({ policy }) => policy)].map(([policy, ofPolicy]) => {
    const cells = groupBy(ofPolicy, (sample) =>
      JSON.stringify([sample.lengthTokens, rowOf(sample)]),
    );
    const counts = [...cells.values()].map((cell) => cell.length);
    const title = `${task}, ${policy}: score by length and depth`;
    const svg = drawHeatMap({
      title,
      subtitle: `${scoreMeaning(ofPolicy)}; ${countText(counts)} a cell${depthsNote(policy, rows)}`,
      columnTitle: 'length, tokens',
      rowTitle: 'depth, 0 % = beginning',
      columns: ascending(ofPolicy.map(({ lengthTokens }) => lengthTokens)).map(formatLength),
      rows: ascending(withDepth.map(rowOf)).map(nameRow),
      cells: [...cells].map(([key, cell]) => {
        const [length, row] = JSON.parse(key) as [number, number];
        const score = sum(cell.map((sample) => sample.score)) / cell.length;
        return { column: formatLength(length), row: nameRow(row), score };
      }),
    });
    return { name: slug(task, policy, 'depths'), title, svg };
  });
}

/** At which lengths a heat map's policy shows nothing. */
function depthsNote(policy: string, rows: readonly SummaryRow[]): string {
  const lengths = rows
    .filter((row) => row.policy === policy && isNoEvidence(row))
    .map(({ lengthTokens }) => formatLength(lengthTokens));
  return lengths.length === 0 ? '' : `; no evidence at ${lengths.join(', ')}`;
}

/** What outlines in a chart of these rows mean; nothing where it has none. */
function hollowNote(rows: readonly SummaryRow[]): string {
  return rows.some(isNoEvidence) ? '; hollow: no evidence' : '';
}

function scoreMeaning(samples: readonly SampleResult[]): string {
  return samples.some(({ prediction }) => prediction === null)
    ? 'per cent of targets whose every token was the likeliest'
    : 'per cent, mean over answers';
}

function drawScores(task: string, rows: readonly SummaryRow[]): DrawnPicture[] {
  const questions = rows.filter(({ surprise }) => surprise === null);
  if (questions.length === 0) return [];
  const title = `${task}: score by length`;
  const svg = drawLineChart({
    title,
    subtitle: `bars: 95 % intervals; ${countText(questions.map(({ score }) => score.count))} answers a point${hollowNote(questions)}`,
    ...lengthAxis(questions),
    yTitle: 'score, %',
    formatY: (y) => String(Math.round(100 * y)),
    yRange: [0, 1],
    series: seriesOf(questions, ({ lengthTokens, score }) => ({
      x: lengthTokens,
      ...{ y: score.mean, low: score.low, high: score.high },
    })),
  });
  return [{ name: slug(task, 'score'), title, svg }];
}

function drawPerplexities(
  task: string,
  rows: readonly SummaryRow[],
  samples: readonly SampleResult[],
): DrawnPicture[] {
  const isText = samples.some(({ facts }) => typeof facts['positionTokens'] === 'number');
  if (!isText) return drawLogprobs(task, rows);
  const byLength = drawLogprobs(task, rows);
  const byPosition = [...groupBy(samples, ({ lengthTokens }) => lengthTokens)].flatMap(
    ([lengthTokens, ofLength]) =>
      drawPositions(
        task,
        rows.filter((row) => row.lengthTokens === lengthTokens),
        ofLength,
      ),
  );
  return [...byLength, ...byPosition];
}

/** By length, for any task of log-probabilities. */
function drawLogprobs(task: string, rows: readonly SummaryRow[]): DrawnPicture[] {
  const texts = rows.filter(({ surprise }) => surprise !== null);
  if (texts.length === 0) return [];
  const title = `${task}: perplexity by length`;
  const tokens = texts.map(({ surprise }) => surprise?.tokens ?? 0);
  const svg = drawLineChart({
    title,
    subtitle: `lower is better; bars: 95 % intervals; ${countText(tokens)} tokens a point${hollowNote(texts)}`,
    ...lengthAxis(texts),
    ...PERPLEXITY_AXIS,
    series: seriesOf(texts, ({ lengthTokens, surprise }) => {
      const { mean, low, high } = surprise?.natsPerToken ?? { mean: NaN, low: NaN, high: NaN };
      return { x: lengthTokens, ...perplexities(mean, low, high) };
    }),
  });
  return [{ name: slug(task, 'perplexity'), title, svg }];
}

/** @param rows of one length */
function drawPositions(
  task: string,
  rows: readonly SummaryRow[],
  samples: readonly SampleResult[],
): DrawnPicture[] {
  const lengthTokens = rows[0]?.lengthTokens ?? NaN;
  const bin = ({ facts }: SampleResult): number => {
    const share = Number(facts['positionTokens']) / lengthTokens;
    return Math.min(Math.floor(share * POSITION_BINS), POSITION_BINS - 1);
  };
  const targets = samples.filter(
    ({ logprobSum, targetTokens, facts }) =>
      logprobSum !== null && (targetTokens ?? 0) > 0 && Number.isFinite(facts['positionTokens']),
  );
  if (new Set(targets.map(bin)).size < 2) return [];
  const series = [...groupBy(targets, ({ policy }) => policy)].map(([policy, ofPolicy]) => ({
    name: seriesName(rows.filter((row) => row.policy === policy)),
    points: [...groupBy(ofPolicy, bin)].map(([at, inBin]) => {
      const parts = inBin.map(({ logprobSum, targetTokens }) => ({
        value: -(logprobSum ?? 0),
        weight: targetTokens ?? 0,
      }));
      const { mean, low, high } = estimateRatio(parts);
      const x = ((at + 0.5) / POSITION_BINS) * lengthTokens;
      const isHollow = rows.some((row) => row.policy === policy && isNoEvidence(row));
      return { x, isHollow, ...perplexities(mean, low, high) };
    }),
  }));
  const title = `${task}, ${formatLength(lengthTokens)} tokens: perplexity by position`;
  const svg = drawLineChart({
    title,
    subtitle: `lower is better; bars: 95 % intervals${hollowNote(rows)}`,
    xTitle: 'position in the prompt, tokens',
    xTicks: [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * lengthTokens)),
    formatX: formatLength,
    ...PERPLEXITY_AXIS,
    series,
  });
  return [{ name: slug(task, String(lengthTokens), 'positions'), title, svg }];
}

const PERPLEXITY_AXIS = {
  yTitle: 'perplexity',
  formatY: formatTick,
} as const;

function perplexities(
  mean: number,
  low: number,
  high: number,
): { y: number; low: number; high: number } {
  return { y: Math.exp(mean), low: bound(low), high: bound(high) };
}

/** An end that is not known stays unknown: e to the minus infinity would be a perplexity of 0. */
function bound(nats: number): number {
  return Number.isFinite(nats) ? Math.exp(nats) : NaN;
}

function lengthAxis(rows: readonly SummaryRow[]): {
  xTitle: string;
  xTicks: number[];
  formatX: (x: number) => string;
  xScale: 'log2';
} {
  return {
    xTitle: 'length, tokens (log scale)',
    xTicks: [...new Set(rows.map(({ lengthTokens }) => lengthTokens))],
    formatX: formatLength,
    xScale: 'log2',
  };
}

function seriesOf(
  rows: readonly SummaryRow[],
  toPoint: (row: SummaryRow) => ChartSeries['points'][number],
): ChartSeries[] {
  return [...groupBy(rows, ({ policy }) => policy).values()].map((ofPolicy) => ({
    name: seriesName(ofPolicy),
    points: ofPolicy.map((row) => ({ ...toPoint(row), isHollow: isNoEvidence(row) })),
  }));
}

/** A policy's name, and what it cost: `minference@32, 8 to 24 % of tiles`. */
function seriesName(rows: readonly SummaryRow[]): string {
  const name = rows[0]?.policy ?? '';
  const densities = rows.flatMap(({ role, tileDensity }) =>
    role === 'dense' || tileDensity === null ? [] : [tileDensity],
  );
  if (densities.length === 0) return name;
  const ends = [Math.min(...densities), Math.max(...densities)].map(formatPercent);
  return `${name}, ${[...new Set(ends)].join(' to ')} % of tiles`;
}

function countText(counts: readonly number[]): string {
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const text = (count: number): string => count.toLocaleString('en-US');
  return least === most ? text(least) : `${text(least)} to ${text(most)}`;
}

function slug(...words: readonly string[]): string {
  return words.flatMap((word) => word.match(/[A-Za-z0-9]+/g) ?? []).join('-');
}

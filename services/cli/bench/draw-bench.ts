import { formatLength, formatTick } from '../eval/report/format-numbers.js';
import { type ChartSeries, drawLineChart } from '../eval/report/svg/line-chart.js';
import type { PictureHead } from '../eval/report/svg/picture.js';
import type { PolicyCosts } from './policy-costs.js';

/** More marks than that would hide their line. */
const MOST_POINTS = 20;

/** Seconds from the prompt's beginning to each position, under every policy, as SVG. */
export function drawBench(head: PictureHead, policies: readonly PolicyCosts[]): string {
  const tokens = policies[0]?.costs.at(-1)?.endToken ?? 0;
  return drawLineChart({
    ...head,
    xTitle: 'position in the prompt, tokens',
    xTicks: [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * tokens)),
    formatX: formatLength,
    yTitle: 'seconds since the beginning',
    formatY: formatTick,
    // Those by the law come last, so that what was measured has its colour in every picture.
    series: [...policies.map(measuredSeries), ...policies.flatMap(lawSeries)],
  });
}

type Point = ChartSeries['points'][number];

function measuredSeries({ policy, costs }: PolicyCosts): ChartSeries {
  const measured = costs.filter(({ isMeasured }) => isMeasured);
  const points = sums(costs).slice(0, measured.length + 1);
  return { name: policy, points: thinned(points) };
}

function lawSeries({ policy, costs, law }: PolicyCosts): ChartSeries[] {
  if (law === null) return [];
  const measured = costs.filter(({ isMeasured }) => isMeasured);
  return [{ name: `${policy}, by cost law`, points: thinned(sums(costs).slice(measured.length)) }];
}

/** After each chunk, from the origin on. */
function sums(costs: PolicyCosts['costs']): Point[] {
  let seconds = 0;
  const points = costs.map((cost) => {
    seconds += cost.seconds;
    return point(cost.endToken, seconds);
  });
  return [point(0, 0), ...points];
}

function point(x: number, y: number): Point {
  return { x, y, low: NaN, high: NaN };
}

/** The first, the last, and some between them. */
function thinned(points: readonly Point[]): Point[] {
  const step = Math.ceil((points.length - 1) / MOST_POINTS);
  const last = points.length - 1;
  return points.filter((_, at) => at === last || at % step === 0);
}

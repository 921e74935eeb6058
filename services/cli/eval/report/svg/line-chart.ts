import { headWidth, picture, type PictureHead } from './picture.js';
import { linearScale, niceTicks, spreadApart } from './scales.js';
import { element, label, line, type Markup } from './svg.js';
import { SERIES_STYLES } from './theme.js';

const HEIGHT = 430;
const PLOT = { left: 84, right: 620, top: 74, bottom: HEIGHT - 62 } as const;
/** Beside the plot: a leader and a marker, then the name at so much a character. */
const [NAME_ROOM, NAME_CHARACTER, LEAST_NAME] = [48, 8, 12] as const;
const CAP = 4;
/** Between the points of neighbouring series at one place, so that their intervals stay apart. */
const DODGE = 7;
const LABEL_GAP = 16;
const TICK_GAP = 44;

export interface ChartPoint {
  readonly x: number;
  readonly y: number;
  /** Ends of the interval; not drawn where they are not finite. */
  readonly low: number;
  readonly high: number;
  /** Drawn as an outline; the picture's subtitle says what that means. */
  readonly isHollow?: boolean;
}

export interface ChartSeries {
  readonly name: string;
  readonly points: readonly ChartPoint[];
}

export interface LineChart extends PictureHead {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly xTicks: readonly number[];
  readonly formatX: (x: number) => string;
  /** @param step between two ticks */
  readonly formatY: (y: number, step: number) => string;
  /** Default straight; `log2` for lengths that double. */
  readonly xScale?: 'linear' | 'log2';
  /** Default: what the points and their intervals span. */
  readonly yRange?: readonly [number, number];
  readonly series: readonly ChartSeries[];
}

/** Lines with intervals, each named at its end. @throws RangeError without points */
export function drawLineChart(chart: LineChart): string {
  const points = chart.series.flatMap((series) => series.points);
  if (points.length === 0) throw new RangeError(`nothing to draw in "${chart.title}"`);
  const toX = chart.xScale === 'log2' ? Math.log2 : (x: number): number => x;
  const xs = [...points.map(({ x }) => x), ...chart.xTicks].map(toX);
  const inset = 24 + (DODGE * (chart.series.length - 1)) / 2;
  const straight = linearScale(
    [Math.min(...xs), Math.max(...xs)],
    [PLOT.left + inset, PLOT.right - inset],
  );
  const x = (value: number): number => straight(toX(value));
  const yTicks = yTicksOf(chart, points);
  const y = linearScale([yTicks[0] ?? 0, yTicks.at(-1) ?? 1], [PLOT.bottom, PLOT.top]);
  const longest = Math.max(LEAST_NAME, ...chart.series.map(({ name }) => name.length));
  const width = Math.max(headWidth(chart), PLOT.right + NAME_ROOM + longest * NAME_CHARACTER);
  return picture(width, HEIGHT, chart, [
    ...drawYAxis(chart, yTicks, y),
    ...drawXAxis(chart, x),
    ...chart.series.flatMap((series, at) => drawSeries(chart, series, at, x, y)),
    ...drawNames(chart, x, y),
  ]);
}

function yTicksOf({ yRange }: LineChart, points: readonly ChartPoint[]): number[] {
  if (yRange !== undefined) return niceTicks(yRange[0], yRange[1], 5);
  const values = points.flatMap(({ y, low, high }) => [y, low, high]).filter(Number.isFinite);
  return niceTicks(Math.min(...values), Math.max(...values), 6);
}

function drawYAxis(
  { yTitle, formatY }: LineChart,
  ticks: readonly number[],
  y: (value: number) => number,
): Markup[] {
  const middle = (PLOT.top + PLOT.bottom) / 2;
  const step = (ticks[1] ?? 1) - (ticks[0] ?? 0);
  return [
    ...ticks.flatMap((tick) => [
      line(PLOT.left, y(tick), PLOT.right, y(tick), tick === ticks[0] ? 'axis' : 'grid'),
      label(PLOT.left - 8, y(tick) + 4, formatY(tick, step), 'tick', 'end'),
    ]),
    element('g', { transform: `rotate(-90 20 ${middle})` }, [
      label(20, middle + 4, yTitle, 'note', 'middle'),
    ]),
  ];
}

function drawXAxis({ xTitle, xTicks, formatX }: LineChart, x: (value: number) => number): Markup[] {
  const ticks: Markup[] = [];
  let free = -Infinity;
  for (const tick of [...xTicks].sort((a, b) => a - b)) {
    const at = x(tick);
    ticks.push(line(at, PLOT.bottom, at, PLOT.bottom + 5, 'axis'));
    if (at < free) continue;
    ticks.push(label(at, PLOT.bottom + 20, formatX(tick), 'tick', 'middle'));
    free = at + TICK_GAP;
  }
  const middle = (PLOT.left + PLOT.right) / 2;
  return [...ticks, label(middle, HEIGHT - 18, xTitle, 'note', 'middle')];
}

function drawSeries(
  chart: LineChart,
  series: ChartSeries,
  at: number,
  x: (value: number) => number,
  y: (value: number) => number,
): Markup[] {
  const style = `s${at % SERIES_STYLES}`;
  const placed = sorted(series).map((point) => ({
    ...point,
    px: x(point.x) + dodge(chart, at),
    py: y(point.y),
  }));
  const bars = placed
    .filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high) && low < high)
    .flatMap(({ px, low, high }) => [
      line(px, y(low), px, y(high), `bar ${style}`),
      line(px - CAP, y(low), px + CAP, y(low), `bar ${style}`),
      line(px - CAP, y(high), px + CAP, y(high), `bar ${style}`),
    ]);
  const path = placed.map(({ px, py }) => `${px.toFixed(2)},${py.toFixed(2)}`).join(' ');
  return [
    element('polyline', { points: path, class: `path ${style}` }),
    ...bars,
    ...placed.map(({ px, py, isHollow }) => marker(px, py, at, isHollow)),
  ];
}

/** Behind the last point of each series, moved apart where they would overlap. */
function drawNames(
  chart: LineChart,
  x: (value: number) => number,
  y: (value: number) => number,
): Markup[] {
  const ends = chart.series.map((series) => sorted(series).at(-1) ?? { x: 0, y: 0 });
  const places = spreadApart(
    ends.map((end) => y(end.y)),
    LABEL_GAP,
    [PLOT.top, PLOT.bottom],
  );
  const nameX = PLOT.right + 14;
  return chart.series.flatMap(({ name }, at) => {
    const [end, place] = [ends[at], places[at]];
    if (end === undefined || place === undefined) return [];
    const from = x(end.x) + dodge(chart, at) + 6;
    return [
      line(from, y(end.y), nameX - 3, place, 'grid'),
      marker(nameX + 4, place, at),
      label(nameX + 14, place + 4, name, `name s${at % SERIES_STYLES}`),
    ];
  });
}

function dodge({ series }: LineChart, at: number): number {
  return (at - (series.length - 1) / 2) * DODGE;
}

function sorted({ points }: ChartSeries): ChartPoint[] {
  return [...points].sort((a, b) => a.x - b.x);
}

/** Circle, square, triangle, diamond in turn. */
function marker(x: number, y: number, at: number, isHollow = false): Markup {
  const kind = `mark${isHollow ? ' hollow' : ''} s${at % SERIES_STYLES}`;
  const r = 4;
  const corners = (points: readonly (readonly [number, number])[]): Markup =>
    element('polygon', {
      points: points.map(([dx, dy]) => `${(x + dx).toFixed(2)},${(y + dy).toFixed(2)}`).join(' '),
      class: kind,
    });
  if (at % 4 === 1)
    return corners([
      [-r, -r],
      [r, -r],
      [r, r],
      [-r, r],
    ]);
  if (at % 4 === 2)
    return corners([
      [0, -r - 1],
      [r + 1, r],
      [-r - 1, r],
    ]);
  if (at % 4 === 3)
    return corners([
      [0, -r - 1],
      [r + 1, 0],
      [0, r + 1],
      [-r - 1, 0],
    ]);
  return element('circle', { cx: x, cy: y, r, class: kind });
}

import { headWidth, picture, type PictureHead } from '../eval/report/svg/picture.js';
import { linearScale, niceTicks } from '../eval/report/svg/scales.js';
import { element, label, line, type Markup } from '../eval/report/svg/svg.js';
import { formatCount } from '../output/format.js';

/** More rows than a reader, or a screen, can tell apart. */
export const MOST_ROWS = 512;

const SIDE = 640;
const PLOT = { left: 92, top: 76 } as const;
const LEGEND = { gap: 28, box: 16, row: 24, room: 112 } as const;
/** A colour that is plain on white and on black; shares are its opacity. */
const COLOUR = '#1f86d1';
/** Upper ends of the shades, shares of a tile's keys: one column in 64, a quarter, half, all. */
const SHADES = [
  { upTo: 0.05, opacity: 0.35, name: 'up to 5 %' },
  { upTo: 0.25, opacity: 0.55, name: 'up to 25 %' },
  { upTo: 0.75, opacity: 0.75, name: 'up to 75 %' },
  { upTo: Infinity, opacity: 1, name: 'more' },
] as const;

/** What a picture shows of one head. */
export interface AttentionPicture extends PictureHead {
  /** [row][column], column <= row: shares of keys, 0 to 1. */
  readonly shares: readonly (readonly number[])[];
  /** That the rows stand for, in tokens. */
  readonly promptTokens: number;
  /** Tokens that one row stands for. */
  readonly rowTokens: number;
}

/** Query blocks downwards, keys to the right, and each tile as dark as the share of its keys. */
export function drawAttention(drawn: AttentionPicture): string {
  const { shares, promptTokens, rowTokens } = drawn;
  const [right, bottom] = [PLOT.left + SIDE, PLOT.top + SIDE];
  const width = Math.max(headWidth(drawn), right + LEGEND.gap + LEGEND.room);
  const scale = SIDE / shares.length;
  return picture(width, bottom + 62, drawn, [
    element(
      'g',
      {
        transform: `translate(${String(PLOT.left)} ${String(PLOT.top)}) scale(${String(scale)})`,
        'shape-rendering': 'crispEdges',
      },
      [causalGround(shares.length), ...SHADES.map((_, shade) => shadePath(shares, shade))],
    ),
    element('rect', { x: PLOT.left, y: PLOT.top, width: SIDE, height: SIDE, class: 'frame' }),
    ...drawAxes(promptTokens, shares.length * rowTokens),
    ...drawLegend(right + LEGEND.gap, PLOT.top),
  ]);
}

/** What a dense head attends to. */
function causalGround(rows: number): Markup {
  const steps = Array.from({ length: rows }, (_, row) => `H${String(row + 1)}v1`);
  const d = `M0 0${steps.join('')}H0z`;
  return element('path', { d, fill: '#818b98', 'fill-opacity': '0.18' });
}

/** All cells of one shade, a rectangle for each run of them. */
function shadePath(shares: readonly (readonly number[])[], shade: number): Markup {
  const runs = shares.flatMap((cells, row) => {
    const drawn: string[] = [];
    for (let begin = 0; begin < cells.length;) {
      let end = begin + 1;
      while (end < cells.length && shadeOf(cells[end]) === shadeOf(cells[begin])) end += 1;
      const length = String(end - begin);
      if (shadeOf(cells[begin]) === shade) {
        drawn.push(`M${String(begin)} ${String(row)}h${length}v1h-${length}z`);
      }
      begin = end;
    }
    return drawn;
  });
  const opacity = String(SHADES[shade]?.opacity ?? 1);
  return element('path', { d: runs.join(''), fill: COLOUR, 'fill-opacity': opacity });
}

/** -1: no key at all. */
function shadeOf(share = 0): number {
  return share === 0 ? -1 : SHADES.findIndex(({ upTo }) => share <= upTo);
}

/** @param drawnTokens that the plot's side stands for; the last row may be part of one */
function drawAxes(promptTokens: number, drawnTokens: number): Markup[] {
  const [right, bottom] = [PLOT.left + SIDE, PLOT.top + SIDE];
  const x = linearScale([0, drawnTokens], [PLOT.left, right]);
  const y = linearScale([0, drawnTokens], [PLOT.top, bottom]);
  const ticks = niceTicks(0, promptTokens, 5).filter((tick) => tick <= promptTokens);
  const [middleX, middleY] = [(PLOT.left + right) / 2, (PLOT.top + bottom) / 2];
  return [
    ...ticks.flatMap((tick) => [
      line(x(tick), bottom, x(tick), bottom + 5, 'axis'),
      label(x(tick), bottom + 20, formatCount(tick), 'tick', 'middle'),
      line(PLOT.left - 5, y(tick), PLOT.left, y(tick), 'axis'),
      label(PLOT.left - 9, y(tick) + 4, formatCount(tick), 'tick', 'end'),
    ]),
    label(middleX, bottom + 44, 'key position, tokens', 'note', 'middle'),
    element('g', { transform: `rotate(-90 20 ${String(middleY)})` }, [
      label(20, middleY + 4, 'query position, tokens', 'note', 'middle'),
    ]),
  ];
}

function drawLegend(x: number, top: number): Markup[] {
  const box = { x, width: LEGEND.box, height: LEGEND.box } as const;
  const rows = [{ name: 'none', opacity: null }, ...SHADES];
  return [
    label(x, top + 10, 'attended keys', 'note'),
    ...rows.flatMap(({ name, opacity }, at) => {
      const y = top + 22 + at * LEGEND.row;
      const fill =
        opacity === null
          ? { fill: '#818b98', 'fill-opacity': '0.18' }
          : { fill: COLOUR, 'fill-opacity': String(opacity) };
      return [
        element('rect', { ...box, y, ...fill }),
        label(x + LEGEND.box + 8, y + 12.5, name, 'tick'),
      ];
    }),
  ];
}

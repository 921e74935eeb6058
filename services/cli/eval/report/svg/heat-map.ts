import { heatColour, isDark } from './heat-colours.js';
import { headWidth, picture, type PictureHead } from './picture.js';
import { element, label, type Markup } from './svg.js';

const CELL_HEIGHT = 30;
/** Few columns are broad ones: together they fill a picture. */
const [LEAST_CELL, MOST_CELL, FILLED_WIDTH] = [58, 110, 380] as const;
const GAP = 2;
const GRID_TOP = 74;
/** For the title of the rows, and so much a character of their names. */
const [ROW_TITLE, ROW_CHARACTER] = [46, 7.6] as const;
const LEGEND = { gap: 28, width: 16, room: 84 } as const;
const LEGEND_STEPS = 50;

export interface HeatCell {
  readonly column: string;
  readonly row: string;
  /** 0 to 1. */
  readonly score: number;
}

export interface HeatMap extends PictureHead {
  readonly columnTitle: string;
  readonly rowTitle: string;
  /** Left to right. */
  readonly columns: readonly string[];
  /** Top to bottom. */
  readonly rows: readonly string[];
  readonly cells: readonly HeatCell[];
}

/** Scores as colours with their per cent written in; a cell without a score is dashed. */
export function drawHeatMap(map: HeatMap): string {
  const grid = layOut(map);
  const width = map.columns.length * grid.cellWidth;
  const height = map.rows.length * CELL_HEIGHT;
  const [right, bottom] = [grid.left + width, GRID_TOP + height];
  const middle = GRID_TOP + height / 2;
  return picture(Math.max(headWidth(map), right + LEGEND.gap + LEGEND.room), bottom + 62, map, [
    ...map.rows.flatMap((row, at) => drawRow(map, grid, row, at)),
    ...map.columns.map((column, at) =>
      label(grid.left + (at + 0.5) * grid.cellWidth, bottom + 18, column, 'tick', 'middle'),
    ),
    label(grid.left + width / 2, bottom + 42, map.columnTitle, 'note', 'middle'),
    element('g', { transform: `rotate(-90 20 ${middle})` }, [
      label(20, middle + 4, map.rowTitle, 'note', 'middle'),
    ]),
    ...drawLegend(right + LEGEND.gap, GRID_TOP, Math.max(height, 100)),
  ]);
}

interface Grid {
  readonly left: number;
  readonly cellWidth: number;
}

function layOut({ rows, columns }: HeatMap): Grid {
  const longest = Math.max(...rows.map((row) => row.length));
  const even = FILLED_WIDTH / columns.length;
  return {
    left: ROW_TITLE + longest * ROW_CHARACTER,
    cellWidth: Math.min(Math.max(even, LEAST_CELL), MOST_CELL),
  };
}

function drawRow(map: HeatMap, grid: Grid, row: string, at: number): Markup[] {
  const y = GRID_TOP + at * CELL_HEIGHT;
  const cells = map.columns.flatMap((column, columnAt) => {
    const cell = map.cells.find((one) => one.column === column && one.row === row);
    return drawCell(grid.left + columnAt * grid.cellWidth, y, grid.cellWidth, cell);
  });
  return [label(grid.left - 8, y + CELL_HEIGHT / 2 + 4, row, 'tick', 'end'), ...cells];
}

function drawCell(x: number, y: number, width: number, cell: HeatCell | undefined): Markup[] {
  const box = {
    x: x + GAP / 2,
    y: y + GAP / 2,
    width: width - GAP,
    height: CELL_HEIGHT - GAP,
    rx: 2,
  };
  if (cell === undefined) return [element('rect', { ...box, class: 'empty' })];
  const kind = isDark(cell.score) ? 'cell on-dark' : 'cell on-light';
  return [
    element('rect', { ...box, fill: heatColour(cell.score) }),
    label(x + width / 2, y + CELL_HEIGHT / 2 + 4.5, wholePercent(cell.score), kind, 'middle'),
  ];
}

/** Rounded, but 100 only for all and 0 only for none. */
function wholePercent(score: number): string {
  const rounded = Math.round(100 * score);
  if (rounded === 100 && score < 1) return '99';
  return rounded === 0 && score > 0 ? '1' : String(rounded);
}

function drawLegend(x: number, top: number, height: number): Markup[] {
  const step = height / LEGEND_STEPS;
  const steps = Array.from({ length: LEGEND_STEPS }, (_, at) =>
    element('rect', {
      x,
      y: top + at * step,
      width: LEGEND.width,
      // Half a pixel over the next, so that no gap shows between them.
      height: step + (at < LEGEND_STEPS - 1 ? 0.5 : 0),
      fill: heatColour(1 - (at + 0.5) / LEGEND_STEPS),
    }),
  );
  return [
    ...steps,
    element('rect', { x, y: top, width: LEGEND.width, height, class: 'frame' }),
    ...[0, 0.5, 1].map((score) =>
      label(x + LEGEND.width + 6, top + height * (1 - score) + 4, `${100 * score} %`, 'tick'),
    ),
  ];
}

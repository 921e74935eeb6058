import {
  DEFAULT_HEAD_PATTERN,
  hasLines,
  HEAD_PATTERNS,
  type HeadPattern,
  TILE_TOKENS,
} from '../../domain/head-pattern.js';

/** A pattern that a search tries for every query head; `tiles` is the same for all. */
export interface Candidate {
  readonly name: string;
  readonly pattern: HeadPattern['pattern'];
  readonly columns: number;
  readonly distances: number;
}

/** A vertical-slash head has 30 columns and 100 distances in any case: three and a half tiles. */
export const LEAST_TILES = 4;

/** First keys of the window that other systems serve, and of the search's control. */
const CONTROL_COLUMNS = 128;
/** Most columns and diagonals; which of them are taken is for the tiles to say. */
const LINES = [
  [4_096, 100],
  [1_000, 6_096],
  [100, 4_096],
  [30, 4_096],
  [500, 700],
] as const;

/**
 * What a search tries: patterns that take no more than `tiles` key tiles of a query block. Of two
 * that do equally well the earlier one is chosen; those without an estimate come first.
 */
export function searchCandidates(tiles: number): readonly Candidate[] {
  const first = [CONTROL_COLUMNS, Math.floor(tiles / 4) * TILE_TOKENS];
  return [
    ...[...new Set(first)].map((columns) => aShape(columns, tiles)),
    ...LINES.map(([columns, distances]) => candidate('vertical-slash', columns, distances)),
    candidate('block-sparse', 0, 0),
    candidate('key-bounds', 0, 0),
  ];
}

/** Name of the pattern that every head of a model without a pattern file is served with. */
export const DEFAULT_NAME = patternName(DEFAULT_HEAD_PATTERN);

/** Place of that pattern. */
export function defaultPlace(candidates: readonly Candidate[]): number {
  return candidates.findIndex(({ name }) => name === DEFAULT_NAME);
}

/** Place of the window that chooses nothing by content. */
export function controlPlace(candidates: readonly Candidate[]): number {
  return candidates.findIndex(
    ({ pattern, columns }) => pattern === 'a-shape' && columns === CONTROL_COLUMNS,
  );
}

/** As the engine takes them: pattern, columns, distances, tiles of each. */
export function candidateBudgets(
  candidates: readonly Omit<Candidate, 'name'>[],
  tiles: number,
): Float64Array {
  return Float64Array.from(
    candidates.flatMap(({ pattern, columns, distances }) => [
      ...[HEAD_PATTERNS.indexOf(pattern), columns, distances, tiles],
    ]),
  );
}

/** First keys, and as many near ones as leave room for the tile that near keys begin within. */
function aShape(columns: number, tiles: number): Candidate {
  return candidate('a-shape', columns, (tiles - 1) * TILE_TOKENS - columns);
}

function candidate(pattern: HeadPattern['pattern'], columns: number, distances: number): Candidate {
  const lines = { pattern, columns, distances };
  return { name: patternName(lines), ...lines };
}

/** `vertical-slash 1000, 6096`, `key-bounds` */
export function patternName({
  pattern,
  columns,
  distances,
}: Pick<HeadPattern, 'pattern' | 'columns' | 'distances'>): string {
  return hasLines(pattern) ? `${pattern} ${String(columns)}, ${String(distances)}` : pattern;
}

import { z } from 'zod';
import {
  DEFAULT_HEAD_PATTERN,
  hasLines,
  type HeadPattern,
  type ModelPatterns,
} from '../../domain/head-pattern.js';
import { ServingError } from '../../domain/serving-error.js';
import { MAX_TILES_PER_BLOCK } from '../../domain/sparse-policy.js';

/*
 * MInference's pattern file: a list with an object a layer; a key is a query head's number, its value
 * [type, a, b, score]. The score says how a search found it and decides nothing. Ours may have the
 * type key_bounds, and "tiles" in a layer: most key tiles of a query block, by query head.
 */

/** Columns and distances are 32-bit in the engine's index. */
const MAX_LINES = 2 ** 31 - 1;
const HEAD = /^(?:0|[1-9]\d{0,4})$/;

const PATTERN_OF_TYPE = {
  vertical_and_slash: 'vertical-slash',
  stream_llm: 'a-shape',
  block_sparse: 'block-sparse',
  key_bounds: 'key-bounds',
} as const;
type PatternType = keyof typeof PATTERN_OF_TYPE;
const TYPES = Object.keys(PATTERN_OF_TYPE) as PatternType[];

const wantLines = `must be a whole number from 0 to ${String(MAX_LINES)}`;
const lines = z.number(wantLines).int(wantLines).min(0, wantLines).max(MAX_LINES, wantLines);
const wantTiles = `must be a whole number from 1 to ${String(MAX_TILES_PER_BLOCK)}`;
const tiles = z
  .number(wantTiles)
  .int(wantTiles)
  .min(1, wantTiles)
  .max(MAX_TILES_PER_BLOCK, wantTiles);

const head = z.tuple(
  [
    z.enum(TYPES, `the type must be one of ${TYPES.join(', ')}`),
    lines,
    lines,
    z.number('the score must be a number'),
  ],
  'must be [type, a, b, score]',
);
const layer = z
  .object(
    { tiles: z.record(z.string(), tiles, 'must be {"head": tiles}').optional() },
    'must be an object of heads',
  )
  .catchall(head);
const file = z.array(layer, 'must be a list with an object a layer').min(1, 'has no layer');

/**
 * @param path names the file in errors
 * @throws ServingError MODEL_INVALID naming layer and head, and what to change
 */
export function parsePatterns(text: string, path: string): ModelPatterns {
  const parsed = file.safeParse(fromJson(text, path));
  if (parsed.success) return parsed.data.map((entry, place) => toHeads(entry, place, path));
  const [issue] = parsed.error.issues;
  throw malformed(path, issue === undefined ? '' : describe(issue.path, issue.message));
}

function fromJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw malformed(path, `is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function toHeads(
  { tiles: tilesOf = {}, ...heads }: z.infer<typeof layer>,
  place: number,
  path: string,
): ReadonlyMap<number, HeadPattern> {
  const named = new Map<number, HeadPattern>();
  for (const [key, [type, a, b]] of Object.entries(heads)) {
    const pattern = PATTERN_OF_TYPE[type];
    // Published files carry numbers there that their own program does not read.
    const [columns, distances] = hasLines(pattern) ? [a, b] : [0, 0];
    if (pattern === 'a-shape' && distances === 0) {
      const where = `${layerName(place)}, head ${key}, b`;
      throw malformed(path, `${where}: stream_llm needs 1 nearest key at least, its own`);
    }
    named.set(headNumber(key, place, path), { pattern, columns, distances, tiles: null });
  }
  for (const [key, most] of Object.entries(tilesOf)) {
    const number = headNumber(key, place, path);
    named.set(number, { ...(named.get(number) ?? DEFAULT_HEAD_PATTERN), tiles: most });
  }
  return named;
}

function headNumber(key: string, place: number, path: string): number {
  if (HEAD.test(key)) return Number(key);
  const problem = `"${key}" is no query head; want "0", "1", ... or "tiles"`;
  throw malformed(path, `${layerName(place)}: ${problem}`);
}

/** `layer 3, head 7, b: must be ...` */
function describe(place: readonly PropertyKey[], message: string): string {
  const [layerAt, ...rest] = place;
  if (layerAt === undefined) return message;
  const [headAt, field] = rest[0] === 'tiles' ? [rest[1], 'tiles'] : [rest[0], fieldName(rest[1])];
  const words = [
    layerName(layerAt),
    ...(headAt === undefined ? [] : [`head ${String(headAt)}`]),
    ...(field === null ? [] : [field]),
  ];
  return `${words.join(', ')}: ${message}`;
}

function fieldName(place: PropertyKey | undefined): string | null {
  return place === undefined ? null : (['type', 'a', 'b', 'score'][Number(place)] ?? null);
}

function layerName(place: PropertyKey): string {
  return `layer ${String(place)}`;
}

function malformed(path: string, problem: string): ServingError {
  return new ServingError('MODEL_INVALID', `pattern file ${path}: ${problem}`);
}

/**
 * Refuses patterns of another model.
 * @throws ServingError MODEL_INVALID naming what differs
 */
export function checkPatternShape(
  patterns: ModelPatterns,
  model: { readonly layers: number; readonly queryHeads: number },
  path: string,
): void {
  const { layers, queryHeads } = model;
  const choose = 'choose the file that was made for this model';
  if (patterns.length !== layers) {
    const [has, wants] = [String(patterns.length), String(layers)];
    throw malformed(path, `has ${has} layers, and the model has ${wants}; ${choose}`);
  }
  for (const [place, heads] of patterns.entries()) {
    const foreign = [...heads.keys()].find((number) => number >= queryHeads);
    if (foreign === undefined) continue;
    const where = `${layerName(place)}, head ${String(foreign)}`;
    const last = String(queryHeads - 1);
    throw malformed(path, `${where}: the model's last query head is ${last}; ${choose}`);
  }
}

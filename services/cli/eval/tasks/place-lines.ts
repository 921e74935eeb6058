import type { SeededRandom } from '../../text/seeded-random.js';

/** RULER's choice of depths: this many even steps over the text. */
const DEPTH_STEPS = 40;

/** `count` numbers in [0, 1), ascending. */
export function drawFractions(random: SeededRandom, count: number): number[] {
  return Array.from({ length: count }, () => random.next()).sort((one, other) => one - other);
}

/**
 * Different places before lines 0 to `lines` - 1, ascending, from ascending fractions; they move
 * little when the number of lines changes. More fractions than lines share places.
 */
export function distinctPlaces(fractions: readonly number[], lines: number): number[] {
  const free = lines - fractions.length + 1;
  if (free < 1) return fractions.map((fraction) => Math.floor(fraction * lines));
  return fractions.map((fraction, order) => Math.floor(fraction * free) + order);
}

/** `count` different whole percents of RULER's 40, ascending; of more steps if 40 are too few. */
export function drawDepths(random: SeededRandom, count: number): number[] {
  const steps = Math.max(DEPTH_STEPS, count);
  return random.sample(evenDepths(steps), count).sort((one, other) => one - other);
}

/** 0 to 100 in even steps, rounded to whole percents; 50 if there is one. */
export function evenDepths(count: number): number[] {
  if (count === 1) return [50];
  return Array.from({ length: count }, (_, step) => Math.round((100 * step) / (count - 1)));
}

/** A line and where it goes: before line `place` of the others. */
export interface PlacedLine {
  readonly place: number;
  readonly line: string;
}

/** Puts lines between others; of one place the first named goes first. */
export function placeLines(others: readonly string[], placed: readonly PlacedLine[]): string[] {
  const inOrder = [...placed].sort((one, other) => one.place - other.place);
  const lines: string[] = [];
  let from = 0;
  for (const { place, line } of inOrder) {
    for (; from < place && from < others.length; from += 1) lines.push(others[from] as string);
    lines.push(line);
  }
  for (; from < others.length; from += 1) lines.push(others[from] as string);
  return lines;
}

/** The place between lines that is nearest to a share of their text, in percent. */
export function nearestPlace(lines: readonly string[], depthPercent: number): number {
  const characters = lines.reduce((sum, line) => sum + line.length, 0);
  const wanted = (characters * depthPercent) / 100;
  let before = 0;
  for (const [place, line] of lines.entries()) {
    if (before + line.length / 2 >= wanted) return place;
    before += line.length;
  }
  return lines.length;
}

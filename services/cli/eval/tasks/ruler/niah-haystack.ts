import type { SeededRandom } from '../../../text/seeded-random.js';
import { NeedleDraw, overlaps } from '../draw-needles.js';
import { distinctPlaces, drawDepths, drawFractions, placeLines } from '../place-lines.js';
import type { TaskSources } from '../task-sources.js';
import { needleSentence, type NiahParameters, NOISE_SENTENCE } from './templates.js';

/** A text that hides needles and grows by words or lines. */
export interface NiahHaystack {
  /** The text of so many units with all needles in it. */
  hide(units: number): string;
  /** The haystack's own units [from, to). */
  added(from: number, to: number): string;
  /** Whole percent of the text before the needle; needles in the order they were given. */
  depthPercent(needle: number, units: number): number;
}

/** @param taken keys and values of the needles, which distractors must not repeat */
export function niahHaystack(
  kind: NiahParameters,
  needles: readonly string[],
  taken: readonly string[],
  sources: TaskSources,
  random: SeededRandom,
): NiahHaystack {
  if (kind.haystack === 'essay') return essay(needles, sources, random);
  const fractions = drawFractions(random, needles.length);
  const lineOf =
    kind.haystack === 'noise'
      ? (): string => NOISE_SENTENCE
      : distractors(kind, taken, sources, random);
  const lines = (from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, at) => lineOf(from + at));
  return {
    hide(units) {
      const places = distinctPlaces(fractions, units);
      const placed = needles.map((line, at) => ({ place: places[at] ?? 0, line }));
      return placeLines(lines(0, units), placed).join('\n');
    },
    added: (from, to) => `\n${lines(from, to).join('\n')}`,
    depthPercent: (needle, units) =>
      Math.round((100 * (distinctPlaces(fractions, units)[needle] ?? 0)) / units),
  };
}

function essay(
  needles: readonly string[],
  sources: TaskSources,
  random: SeededRandom,
): NiahHaystack {
  const prose = sources.haystack();
  const depths = drawDepths(random, needles.length);
  return {
    hide(units) {
      const sentences = prose.sentences(0, units);
      const placed = needles.map((line, at) => ({
        place: Math.floor((sentences.length * (depths[at] ?? 0)) / 100),
        line,
      }));
      return placeLines(sentences, placed).join(' ');
    },
    added: (from, to) => ` ${prose.words(from, to - from)}`,
    depthPercent: (needle) => depths[needle] ?? 0,
  };
}

/** Needle sentences that nobody asks for; the n-th is the same however many there are. */
function distractors(
  { keyKind, valueKind }: NiahParameters,
  taken: readonly string[],
  sources: TaskSources,
  random: SeededRandom,
): (line: number) => string {
  const draw = new NeedleDraw(random, sources.words(), (text) =>
    taken.some((other) => overlaps(text, other)),
  );
  const made: string[] = [];
  return (line) => {
    while (made.length <= line) {
      made.push(needleSentence(valueKind, draw.next(keyKind), draw.next(valueKind)));
    }
    return made[line] as string;
  };
}

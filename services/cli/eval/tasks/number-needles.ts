import type { SeededRandom } from '../../text/seeded-random.js';
import { NeedleDraw, overlaps } from './draw-needles.js';
import type { TaskSources } from './task-sources.js';

/** A key of two words and its number of seven digits. */
export interface NumberNeedle {
  readonly key: string;
  readonly value: string;
}

/** Needles for prose, no key inside another and none in the haystack by accident. */
export function drawNumberNeedles(
  count: number,
  sources: TaskSources,
  random: SeededRandom,
): NumberNeedle[] {
  const drawn: string[] = [];
  const isTaken = (text: string): boolean =>
    drawn.some((other) => overlaps(text, other)) || sources.haystack().holds(text);
  const draw = new NeedleDraw(random, sources.words(), isTaken);
  return Array.from({ length: count }, () => {
    const needle = { key: draw.next('words'), value: draw.next('numbers') };
    drawn.push(needle.key, needle.value);
    return needle;
  });
}

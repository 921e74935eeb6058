/** Round numbers from at most `low` to at least `high`, about `wanted` of them. */
export function niceTicks(low: number, high: number, wanted: number): number[] {
  const span = high - low > 0 ? high - low : Math.max(Math.abs(high), 1);
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => power * factor >= rough) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, at) =>
    Number(((first + at) * step).toPrecision(12)),
  );
}

/** Maps values from one range to pixels of another, straight. */
export function linearScale(
  [from, to]: readonly [number, number],
  [begin, end]: readonly [number, number],
): (value: number) => number {
  const span = to - from;
  return (value) =>
    span === 0 ? (begin + end) / 2 : begin + ((value - from) / span) * (end - begin);
}

/**
 * Moves places apart until each is `gap` from the next, as little as the order and the range allow.
 * Given in any order; returned in the same.
 */
export function spreadApart(
  places: readonly number[],
  gap: number,
  [low, high]: readonly [number, number],
): number[] {
  const order = places.map((_, at) => at).sort((a, b) => (places[a] ?? 0) - (places[b] ?? 0));
  const spread = [...places];
  let least = low;
  for (const at of order) {
    spread[at] = Math.max(spread[at] ?? 0, least);
    least = spread[at] + gap;
  }
  let most = high;
  for (const at of [...order].reverse()) {
    spread[at] = Math.min(spread[at] ?? 0, most);
    most = spread[at] - gap;
  }
  return spread;
}

/** From this length on, characters that fill over 1 % of the second text never begin a match. */
const POPULAR_FROM_LENGTH = 200;

/**
 * How alike two texts are, 0 to 1, after Ratcliff and Obershelp as Python's difflib has it: twice the
 * characters in matching blocks over all characters. The longest block is found first, the earliest
 * of equals, then what is left and right of it. Not symmetric.
 */
export function sequenceRatio(first: string, second: string): number {
  const [a, b] = [Array.from(first), Array.from(second)];
  if (a.length + b.length === 0) return 1;
  const matcher = { a, b, positions: positionsOf(b) };
  let matched = 0;
  const open: Span[] = [{ aFrom: 0, aTo: a.length, bFrom: 0, bTo: b.length }];
  for (let span = open.pop(); span !== undefined; span = open.pop()) {
    const block = longestBlock(matcher, span);
    if (block.size === 0) continue;
    matched += block.size;
    const [aEnd, bEnd] = [block.a + block.size, block.b + block.size];
    open.push({ ...span, aTo: block.a, bTo: block.b }, { ...span, aFrom: aEnd, bFrom: bEnd });
  }
  return (2 * matched) / (a.length + b.length);
}

interface Matcher {
  readonly a: readonly string[];
  readonly b: readonly string[];
  /** Where each character of b stands, popular ones left out. */
  readonly positions: ReadonlyMap<string, readonly number[]>;
}

interface Span {
  readonly aFrom: number;
  readonly aTo: number;
  readonly bFrom: number;
  readonly bTo: number;
}

interface Block {
  readonly a: number;
  readonly b: number;
  readonly size: number;
}

function positionsOf(b: readonly string[]): Map<string, number[]> {
  const positions = new Map<string, number[]>();
  for (const [at, character] of b.entries()) {
    const known = positions.get(character);
    if (known === undefined) positions.set(character, [at]);
    else known.push(at);
  }
  if (b.length < POPULAR_FROM_LENGTH) return positions;
  const popular = Math.floor(b.length / 100) + 1;
  for (const [character, at] of positions) if (at.length > popular) positions.delete(character);
  return positions;
}

function longestBlock(matcher: Matcher, span: Span): Block {
  let best: Block = { a: span.aFrom, b: span.bFrom, size: 0 };
  let endingAt = new Map<number, number>();
  for (let i = span.aFrom; i < span.aTo; i += 1) {
    const next = new Map<number, number>();
    for (const j of matcher.positions.get(matcher.a[i] ?? '') ?? []) {
      if (j < span.bFrom || j >= span.bTo) continue;
      const size = (endingAt.get(j - 1) ?? 0) + 1;
      next.set(j, size);
      if (size > best.size) best = { a: i - size + 1, b: j - size + 1, size };
    }
    endingAt = next;
  }
  return grown(matcher, span, best);
}

/** The block with equal neighbours taken in: popular characters are found only so. */
function grown({ a, b }: Matcher, span: Span, block: Block): Block {
  let [aFrom, bFrom] = [block.a, block.b];
  let [aTo, bTo] = [block.a + block.size, block.b + block.size];
  while (aFrom > span.aFrom && bFrom > span.bFrom && a[aFrom - 1] === b[bFrom - 1]) {
    aFrom -= 1;
    bFrom -= 1;
  }
  while (aTo < span.aTo && bTo < span.bTo && a[aTo] === b[bTo]) {
    aTo += 1;
    bTo += 1;
  }
  return { a: aFrom, b: bFrom, size: aTo - aFrom };
}

/** Where two equally good steps back are open, whose last item is dropped: a choice of each package. */
export type TieRule = 'drop-first' | 'drop-second';

/**
 * One longest common subsequence of two lists, as ascending positions in `first`. The work and the
 * memory are the product of the two lengths.
 */
export function longestCommonSubsequence(
  first: readonly string[],
  second: readonly string[],
  tieRule: TieRule,
): number[] {
  const width = second.length + 1;
  const lengths = subsequenceLengths(first, second);
  const positions: number[] = [];
  let [i, j] = [first.length, second.length];
  while (i > 0 && j > 0) {
    if (first[i - 1] === second[j - 1]) {
      i -= 1;
      j -= 1;
      positions.push(i);
      continue;
    }
    const withoutFirst = lengths[(i - 1) * width + j] ?? 0;
    const withoutSecond = lengths[i * width + j - 1] ?? 0;
    const dropFirst =
      withoutFirst > withoutSecond || (withoutFirst === withoutSecond && tieRule === 'drop-first');
    if (dropFirst) i -= 1;
    else j -= 1;
  }
  return positions.reverse();
}

/** Row i, column j: the length for the first i and the first j items. */
function subsequenceLengths(first: readonly string[], second: readonly string[]): Uint32Array {
  const width = second.length + 1;
  const lengths = new Uint32Array((first.length + 1) * width);
  for (let i = 1; i <= first.length; i += 1) {
    for (let j = 1; j <= second.length; j += 1) {
      const at = i * width + j;
      lengths[at] =
        first[i - 1] === second[j - 1]
          ? (lengths[at - width - 1] ?? 0) + 1
          : Math.max(lengths[at - width] ?? 0, lengths[at - 1] ?? 0);
    }
  }
  return lengths;
}

/** Text that may be shown now, and whether a stop text ended the answer. */
export interface StopMatch {
  readonly text: string;
  readonly stopped: boolean;
}

/**
 * Finds stop texts in a stream of text pieces. Holds back text that may turn out to be the
 * beginning of one, so no part of a stop text is ever shown. The earliest occurrence wins.
 */
export class StopMatcher {
  #held = '';

  constructor(private readonly stopTexts: readonly string[]) {}

  push(text: string): StopMatch {
    const seen = this.#held + text;
    const at = earliestOccurrence(seen, this.stopTexts);
    if (at !== -1) {
      this.#held = '';
      return { text: seen.slice(0, at), stopped: true };
    }
    const heldLength = longestOpenSuffix(seen, this.stopTexts);
    this.#held = seen.slice(seen.length - heldLength);
    return { text: seen.slice(0, seen.length - heldLength), stopped: false };
  }

  /** At the end of the answer nothing can complete the held text any more. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }
}

function earliestOccurrence(text: string, stopTexts: readonly string[]): number {
  let earliest = -1;
  for (const stopText of stopTexts) {
    const at = text.indexOf(stopText);
    if (at !== -1 && (earliest === -1 || at < earliest)) earliest = at;
  }
  return earliest;
}

/** Length of the longest suffix of `text` that is a proper prefix of a stop text. */
function longestOpenSuffix(text: string, stopTexts: readonly string[]): number {
  let longest = 0;
  for (const stopText of stopTexts) {
    for (let length = Math.min(stopText.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stopText.slice(0, length))) longest = length;
    }
  }
  return longest;
}

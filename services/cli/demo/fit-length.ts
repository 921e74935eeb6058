/** Counting is a call to the cluster: a handful is enough, since tokens grow evenly with text. */
const MOST_COUNTS = 12;

/**
 * Finds a text length, in characters, with as many tokens as possible up to `targetTokens`.
 *
 * @param count tokens of the prompt made from the first `characters` of the text
 * @param firstGuess characters
 * @param mostCharacters length of the text
 */
export async function fitLength(
  targetTokens: number,
  count: (characters: number) => Promise<number>,
  firstGuess: number,
  mostCharacters: number,
): Promise<{ characters: number; tokens: number }> {
  let best = { characters: 0, tokens: 0 };
  const tried = new Set<number>();
  let characters = Math.min(firstGuess, mostCharacters);
  for (let round = 0; round < MOST_COUNTS && !tried.has(characters); round += 1) {
    tried.add(characters);
    const tokens = await count(characters);
    if (tokens <= targetTokens && tokens > best.tokens) best = { characters, tokens };
    const missing = targetTokens - tokens;
    if (missing === 0) break;
    const step = Math.round((missing * characters) / Math.max(tokens, 1));
    const least = Math.sign(missing);
    characters += Math.abs(step) > 1 ? step : least;
    characters = Math.max(1, Math.min(characters, mostCharacters));
  }
  return best;
}

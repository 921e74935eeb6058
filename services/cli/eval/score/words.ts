/** The words of a text: what stands between white space. */
export function splitWords(text: string): string[] {
  return text.split(/\s+/u).filter((word) => word !== '');
}

/** The text with each of `characters` turned into a space. */
export function spaceOut(text: string, characters: readonly string[]): string {
  return characters.reduce((spaced, character) => spaced.replaceAll(character, ' '), text);
}

/** Every run of digits, of any script, as written; leading zeros stay. */
export function digitRuns(text: string): string[] {
  return text.match(/\p{Nd}+/gu) ?? [];
}

/** What a prediction says up to its first line break, leading ones aside. */
export function firstLine(prediction: string): string {
  return prediction.replace(/^\n+/, '').split('\n')[0] ?? '';
}

/**
 * LongBench's classification: one over the number of classes that the prediction names if the right
 * one is among them, else 0. A class whose name is part of the right one's does not count against it.
 * Of two such classes that follow one another in the list, the published script drops the first
 * alone, since it removes from the list it walks; so does this, to give the same scores.
 *
 * @param classes every class of the task, in the file's order
 */
export function classification(
  prediction: string,
  reference: string,
  classes: readonly string[],
): number {
  const named = classes.filter((name) => prediction.includes(name));
  for (let at = 0; at < named.length; at += 1) {
    const name = named[at] ?? '';
    if (name !== reference && reference.includes(name)) named.splice(named.indexOf(name), 1);
  }
  return named.includes(reference) ? 1 / named.length : 0;
}

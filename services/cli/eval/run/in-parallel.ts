/**
 * Does something with every item, at most `atOnce` at a time, in order of beginning. After a failure
 * no further item begins; those that run are waited for.
 * @throws the first failure
 */
export async function inParallel<T>(
  items: Iterable<T> | AsyncIterable<T>,
  atOnce: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const running = new Set<Promise<void>>();
  for await (const item of items) {
    if (failures.length > 0) break;
    const work: Promise<void> = act(item)
      .catch((error: unknown) => {
        failures.push(error);
      })
      .finally(() => running.delete(work));
    running.add(work);
    if (running.size >= atOnce) await Promise.race(running);
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}

/** Aborts at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      stop.abort();
    });
  }
  return stop.signal;
}

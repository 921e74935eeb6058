/*
 * The Lua scripts of this folder: each is one atomic step, and each may run twice (a command whose
 * connection broke is sent again) with the effect and the answer of one run. Numbers that must stay
 * exact (revisions, epochs, attempts, sequences) are compared as the decimal strings that both sides
 * write. Scripts touch keys that they make from a prefix, so Redis Cluster is not supported.
 */

/** A script and how many of its arguments are keys; if absent, its first argument says that. */
export interface ScriptDefinition {
  readonly numberOfKeys?: number;
  readonly lua: string;
}

/** How long an ended session's record, events and token ids can still be read. */
export const ENDED_MS = 600_000;

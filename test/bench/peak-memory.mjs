/*
 * Runs a command and tells the most memory that it and all its descendants had together:
 *
 *   node test/bench/peak-memory.mjs npm run -s demo -- --tokens 1000000
 *
 * Memory is the sum of Pss (/proc/PID/smaps_rollup): a page that several processes map counts once, so
 * that the value store, which worker and decode share, is not counted twice. One JSON line on standard
 * error at the end. Linux only.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const SAMPLE_MS = 2_000;

/** Ids of a process and all that descend from it. */
function familyOf(root) {
  const children = new Map();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const parent = parentOf(name);
    if (parent !== null) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const family = [root];
  for (const id of family) family.push(...(children.get(id) ?? []));
  return family;
}

/** Null for a process that has ended meanwhile. */
function parentOf(id) {
  const status = readOrNull(`/proc/${id}/status`);
  return status === null ? null : Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0);
}

function pssBytes(id) {
  const rollup = readOrNull(`/proc/${id}/smaps_rollup`) ?? '';
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
}

function readOrNull(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

const [program, ...args] = process.argv.slice(2);
if (program === undefined) {
  console.error('usage: node test/bench/peak-memory.mjs COMMAND [ARGUMENT...]');
  process.exit(2);
}
const began = performance.now();
const child = spawn(program, args, { stdio: 'inherit' });
child.on('error', (error) => {
  console.error(`${program}: ${error.message}`);
  process.exitCode = 127;
});
let peak = { pssBytes: 0, processes: 0, atSeconds: 0 };
const timer = setInterval(() => {
  const family = familyOf(child.pid);
  const total = family.reduce((sum, id) => sum + pssBytes(id), 0);
  const atSeconds = Math.round((performance.now() - began) / 1000);
  if (total > peak.pssBytes) peak = { pssBytes: total, processes: family.length, atSeconds };
}, SAMPLE_MS);
// Ctrl-C reaches the command by itself: the terminal sends it to both.
process.on('SIGINT', () => undefined);
child.on('close', (code, signal) => {
  clearInterval(timer);
  console.error(JSON.stringify({ peakPssGib: peak.pssBytes / 2 ** 30, ...peak }));
  process.exitCode = code ?? (signal === 'SIGINT' ? 130 : 1);
});

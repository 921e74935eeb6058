import { spawn } from 'node:child_process';
import { ROOT, toolEnvironment } from './root.mjs';

/** Lines of a failed program's output that are worth a screen. */
const SHOWN_LINES = 80;

/** A failure that was explained to the user already: print the message, no stack. */
export class Stop extends Error {}

/**
 * Runs a program to its end with no standard input and its output held back.
 * @returns what it wrote, both streams in order of arrival
 * @throws Stop with the end of the output, if it fails or is not there
 */
export async function runQuietly(program, args, { env = {}, cwd = ROOT } = {}) {
  const result = await capture(program, args, { env, cwd });
  if (result.code === 0) return result.output;
  const tail = result.output.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n');
  throw new Stop(`${program} ${args.join(' ')}\n${tail}\n(${result.reason})`);
}

/** As runQuietly, but a failure is a result: `code` is null when it did not run to an end. */
export function capture(program, args, { env = {}, cwd = ROOT } = {}) {
  return new Promise((resolve) => {
    const pieces = [];
    const child = spawn(program, args, {
      cwd,
      env: { ...toolEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const finish = (code, reason) => {
      resolve({ code, reason, output: Buffer.concat(pieces).toString('utf8') });
    };
    child.stdout.on('data', (piece) => pieces.push(piece));
    child.stderr.on('data', (piece) => pieces.push(piece));
    child.on('error', (error) => finish(null, error.message));
    child.on('close', (code, signal) => finish(code, signal ?? `exit status ${code}`));
  });
}

/**
 * Runs a program with its output on the terminal.
 * @returns its exit status; 1 if it could not be started or a signal ended it
 */
export function runAloud(program, args, { env = {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      env: { ...toolEnvironment(), ...env },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const forward = (signal) => child.kill(signal);
    process.on('SIGINT', forward).on('SIGTERM', forward);
    const finish = (code) => {
      process.off('SIGINT', forward).off('SIGTERM', forward);
      resolve(code ?? 1);
    };
    child.on('error', (error) => {
      console.error(`${program}: ${error.message}`);
      finish(1);
    });
    child.on('close', finish);
  });
}

/** Runs a script's main function; a Stop becomes its message and exit status 1. */
export async function main(run) {
  try {
    process.exitCode = (await run()) ?? 0;
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    console.error(`\n${error.message}`);
    process.exitCode = 1;
  }
}

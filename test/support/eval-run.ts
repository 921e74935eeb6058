import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { SampleResult } from '../../services/cli/eval/eval-types.js';
import { poll } from './poll.js';
import { CLI_PATH } from './run.js';

const WITHIN_MS = 120_000;

/** `longshadow eval` as a process of its own. */
export class EvalProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<{ code: number | null; stdout: string; stderr: string }>;

  /** @param args what follows `eval` */
  constructor(
    readonly out: string,
    args: readonly string[],
  ) {
    const command = ['--import', 'tsx', CLI_PATH, 'eval', ...args, '--out', out];
    const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#ended = Promise.all([
      once(child, 'close') as Promise<[number | null]>,
      text(child.stdout),
      text(child.stderr),
    ]).then(([[code], stdout, stderr]) => ({ code, stdout, stderr }));
  }

  /** Waits until so many samples are written. */
  async writes(samples: number): Promise<void> {
    await poll(
      () => readSamples(this.out).length >= samples || this.#child.exitCode !== null,
      (done) => done,
      WITHIN_MS,
    );
    if (readSamples(this.out).length >= samples) return;
    throw new Error(`it ended before: ${JSON.stringify(await this.#ended)}`);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** @throws Error with its output on another status */
  async ends(code = 0): Promise<{ stdout: string; stderr: string }> {
    const ended = await this.#ended;
    if (ended.code === code) return ended;
    throw new Error(`eval ended with ${ended.code}:\n${ended.stdout}\n${ended.stderr}`);
  }
}

/** The whole lines of a run's results; none before its first. */
export function readSamples(out: string): SampleResult[] {
  const path = join(out, 'results.jsonl');
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as SampleResult);
}

/** What a run found, in an order of its own, without times. */
export function findings(out: string): unknown[] {
  return readSamples(out)
    .map((sample) => ({ ...sample, timeToFirstTokenMs: null }))
    .sort((a, b) => keyOf(a).localeCompare(keyOf(b)));
}

function keyOf({ documentId, policy, questionId }: SampleResult): string {
  return `${documentId} ${policy} ${questionId}`;
}

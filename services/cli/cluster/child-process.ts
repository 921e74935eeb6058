import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

/** What is kept of a child's stderr for error messages. */
const KEPT_LINES = 20;
const OUTPUT_GRACE_MS = 500;

/** How a child ended. */
export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child in its own process group, whose stdin ends when this process does. */
export class SupervisedChild {
  readonly pid: number;
  /** Settles when the child has ended; never rejects. */
  readonly exited: Promise<ChildExit>;
  readonly #process: ChildProcess;
  readonly #lastLines: string[] = [];
  #hasExited = false;

  private constructor(
    readonly name: string,
    child: ChildProcess,
    pid: number,
    onLine: (stream: 'stdout' | 'stderr', line: string) => void,
  ) {
    this.#process = child;
    this.pid = pid;
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#hasExited = true;
        child.stdin?.destroy();
        const exit = { code, signal };
        // Its last lines may still be on their way; a grandchild may hold the pipe for ever.
        const timer = setTimeout(resolve, OUTPUT_GRACE_MS, exit);
        child.once('close', () => {
          clearTimeout(timer);
          resolve(exit);
        });
      });
    });
    child.stdin?.on('error', () => undefined);
    for (const stream of ['stdout', 'stderr'] as const) {
      const input = child[stream];
      if (input === null) continue;
      createInterface({ input }).on('line', (line) => {
        this.#lastLines.push(line);
        if (this.#lastLines.length > KEPT_LINES) this.#lastLines.shift();
        onLine(stream, line);
      });
    }
  }

  /** @throws the spawn error, as ENOENT for a missing program */
  static async start(
    name: string,
    command: string,
    args: readonly string[],
    environment: NodeJS.ProcessEnv,
    onLine: (stream: 'stdout' | 'stderr', line: string) => void = () => undefined,
  ): Promise<SupervisedChild> {
    // A group of its own: Ctrl-C in a terminal reaches only the supervisor, which stops in order.
    const child = spawn(command, args, { detached: true, env: environment, stdio: 'pipe' });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    if (child.pid === undefined) throw new Error(`${name} has no process id`);
    return new SupervisedChild(name, child, child.pid, onLine);
  }

  get running(): boolean {
    return !this.#hasExited;
  }

  /** The last lines that the child wrote. */
  lastLines(): readonly string[] {
    return this.#lastLines;
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Signals the process and all that it has started; one that is gone is no error. */
  signalGroup(name: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  write(text: string): void {
    this.#process.stdin?.write(text);
  }

  /** Ends the child's stdin: its sign to end. */
  endInput(): void {
    this.#process.stdin?.end();
  }

  /** Waits for the end; after `graceMs` the whole group is killed. */
  async waitOrKill(graceMs: number): Promise<ChildExit> {
    const timer = setTimeout(() => {
      this.signalGroup('SIGKILL');
    }, graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

import { setTimeout as pause } from 'node:timers/promises';
import { BackOff } from './back-off.js';
import type { ChildExit, SupervisedChild } from './child-process.js';
import type { ServiceRole } from './service-child.js';

export type MemberRole = ServiceRole | 'redis';

/** A member's process of the moment. */
export interface MemberProcess {
  readonly child: SupervisedChild;
  /** Where it serves: host:port, or Redis's URL. */
  readonly address: string;
}

/** How a member is started and ended. */
export interface MemberPlan {
  readonly role: MemberRole;
  /** Stays the same over restarts, as `worker-0`. */
  readonly name: string;
  /**
   * Starts a process and waits until it serves.
   *
   * @param lastAddress where the process before it served; null at the first start
   * @throws ServingError of what could not start; the signal's reason
   */
  launch(lastAddress: string | null, signal: AbortSignal): Promise<MemberProcess>;
  /** Ends a process in order; kills it after `graceMs`. */
  end(process: MemberProcess, graceMs: number): Promise<void>;
}

/** What a member tells its cluster. */
export interface MemberReports {
  /** A line for people. */
  say(line: string): void;
  /** The member ended and nobody starts it again. */
  failed(why: string): void;
}

/**
 * One member of a local cluster: a process under a stable name, started again when it dies. Starts
 * and ends of one member come one after another.
 */
export class Member {
  readonly #life = new AbortController();
  readonly #backOff = new BackOff();
  /** Processes that we ended ourselves. */
  readonly #endedByUs = new WeakSet<SupervisedChild>();
  #process: MemberProcess | null = null;
  #servesSinceMs = 0;
  #work: Promise<unknown> = Promise.resolve();

  /** @param restarts false: a process that dies stays dead and is reported as failed */
  constructor(
    private readonly plan: MemberPlan,
    private readonly restarts: boolean,
    private readonly reports: MemberReports,
  ) {}

  get role(): MemberRole {
    return this.plan.role;
  }

  get name(): string {
    return this.plan.name;
  }

  /** Of its process now, or of the last one. @throws Error before its first start */
  get pid(): number {
    return this.#started().child.pid;
  }

  /** Where it serves, or served last. @throws Error before its first start */
  get address(): string {
    return this.#started().address;
  }

  get running(): boolean {
    return this.#process?.child.running ?? false;
  }

  /** @throws as MemberPlan.launch */
  async start(signal?: AbortSignal): Promise<void> {
    await this.#oneAtATime(() => this.#launch(signal));
  }

  /** Sends a signal to the process and what it has started. */
  signal(name: NodeJS.Signals): void {
    this.#started().child.signalGroup(name);
  }

  /** Kills the process as an outsider would, and waits for its end. */
  async kill(name: 'SIGKILL' | 'SIGTERM' | 'SIGINT'): Promise<ChildExit> {
    const { child } = this.#started();
    child.signalGroup(name);
    return child.exited;
  }

  /** Ends the process if it runs (by force after `graceMs`), starts another and waits until it serves. */
  async restart(graceMs: number): Promise<void> {
    await this.#oneAtATime(async () => {
      await this.#end(graceMs);
      await this.#launch();
    });
  }

  /** Ends the member for good. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    this.#life.abort();
    await this.#oneAtATime(() => this.#end(graceMs));
  }

  #started(): MemberProcess {
    if (this.#process === null) throw new Error(`${this.name} was never started`);
    return this.#process;
  }

  async #oneAtATime<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => undefined);
    return done;
  }

  async #launch(signal?: AbortSignal): Promise<void> {
    const signals = [this.#life.signal, ...(signal === undefined ? [] : [signal])];
    const lastAddress = this.#process?.address ?? null;
    const process = await this.plan.launch(lastAddress, AbortSignal.any(signals));
    this.#process = process;
    this.#servesSinceMs = performance.now();
    void this.#watch(process);
  }

  async #end(graceMs: number): Promise<void> {
    if (this.#process === null || !this.running) return;
    this.#endedByUs.add(this.#process.child);
    await this.plan.end(this.#process, graceMs);
  }

  async #watch({ child }: MemberProcess): Promise<void> {
    const { code, signal } = await child.exited;
    if (this.#endedByUs.has(child) || this.#life.signal.aborted) return;
    const how = signal === null ? `with code ${String(code)}` : `by ${signal}`;
    const what = `${this.name} (pid ${String(child.pid)}) ended ${how}`;
    if (this.restarts) {
      await this.#startAgain(what, this.#backOff.ended(performance.now() - this.#servesSinceMs));
    } else {
      this.reports.failed(`${what}; it wrote:\n${child.lastLines().join('\n')}`);
    }
  }

  /** Until it serves, is stopped, or is given up. */
  async #startAgain(what: string, firstPauseMs: number): Promise<void> {
    let why = what;
    for (let pauseMs: number | null = firstPauseMs; pauseMs !== null;) {
      this.reports.say(`${why}; it starts again in ${String(pauseMs / 1_000)} s`);
      try {
        await pause(pauseMs, undefined, { signal: this.#life.signal });
        await this.#oneAtATime(async () => (this.running ? undefined : this.#launch()));
        this.reports.say(`${this.name} serves again: pid ${String(this.pid)}, ${this.address}`);
        return;
      } catch (error) {
        if (this.#life.signal.aborted) return;
        why = `${this.name} did not start: ${error instanceof Error ? error.message : String(error)}`;
        pauseMs = this.#backOff.failedToStart();
      }
    }
    this.reports.failed(`${why}; it is given up`);
  }
}

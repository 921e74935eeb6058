import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';

/** Ends Redis when this pipe's other end closes, which the kernel does however the parent dies. */
const GUARD = `
"$@" < /dev/null > /dev/null & server=$!
echo $server
read -r _ || true
kill -9 $server 2> /dev/null
`;

/** A real Redis of a test that may stop, die, and come back at the same URL, empty or with its data. */
export class FaultRedis {
  readonly url: string;
  readonly #folder: string;
  #guard: ChildProcess | null = null;
  #pid = 0;

  /** @param keepsData an append-only file is written, and read at the next start */
  private constructor(private readonly keepsData: boolean) {
    this.#folder = mkdtempSync(join(tmpdir(), 'ls-redis-'));
    this.url = `unix://${this.#socket}`;
  }

  static async start({ keepsData }: { readonly keepsData: boolean }): Promise<FaultRedis> {
    const redis = new FaultRedis(keepsData);
    await redis.startAgain();
    return redis;
  }

  get pid(): number {
    return this.#pid;
  }

  /** After kill(): empty, unless it keeps its data. Returns once it answers. */
  async startAgain(): Promise<void> {
    const settings = {
      dir: this.#folder,
      port: '0',
      unixsocket: this.#socket,
      unixsocketperm: '700',
      save: '',
      appendonly: this.keepsData ? 'yes' : 'no',
      'maxmemory-policy': 'noeviction',
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const guard = spawn('sh', ['-c', GUARD, 'sh', 'redis-server', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#guard = guard;
    const [pid] = (await once(createInterface({ input: guard.stdout }), 'line')) as [string];
    this.#pid = Number(pid);
    await this.use((redis) => redis.ping());
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  pause(): void {
    process.kill(this.#pid, 'SIGSTOP');
  }

  goOn(): void {
    process.kill(this.#pid, 'SIGCONT');
  }

  async kill(): Promise<void> {
    process.kill(this.#pid, 'SIGKILL');
    await this.#ended();
  }

  /** Runs commands on a connection of their own. */
  async use<T>(work: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis({
      path: this.#socket,
      retryStrategy: () => 20,
      maxRetriesPerRequest: 250,
    });
    redis.on('error', () => undefined);
    try {
      return await work(redis);
    } finally {
      redis.disconnect();
    }
  }

  /** Ends it and removes its folder. */
  async stop(): Promise<void> {
    await this.#ended();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #socket(): string {
    return join(this.#folder, 'r.sock');
  }

  async #ended(): Promise<void> {
    const guard = this.#guard;
    this.#guard = null;
    if (guard === null) return;
    const ended = once(guard, 'exit');
    guard.stdin?.end();
    await ended;
  }
}

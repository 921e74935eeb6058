import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { LlamaCalls, OurCalls, Reply, Request } from './engine-process.js';

/** An engine in a process of its own: its calls, one at a time, and its end. */
export type EngineProcess<Calls> = Calls & { end(): Promise<void> };

type AnyCall = (argument: never) => Promise<unknown>;

/** Our engine's process. It ends with this one. */
export function startOurs(): EngineProcess<OurCalls> {
  const { call, end } = start('ours');
  return { ...calls<OurCalls>(call, ['open', 'prefill', 'close']), end };
}

/** llama.cpp's process. It ends with this one. */
export function startLlama(): EngineProcess<LlamaCalls> {
  const { call, end } = start('llama');
  return { ...calls<LlamaCalls>(call, ['open', 'prefill', 'close']), end };
}

type Call = (method: string, argument: unknown) => Promise<unknown>;

function calls<Calls extends { [Name in keyof Calls]: AnyCall }>(
  call: Call,
  names: readonly (keyof Calls & string)[],
): Calls {
  const entries = names.map((name) => [name, (argument: unknown) => call(name, argument)]);
  return Object.fromEntries(entries) as Calls;
}

function start(which: 'ours' | 'llama'): { call: Call; end: () => Promise<void> } {
  const child = fork(fileURLToPath(new URL('engine-process.ts', import.meta.url)), [which], {
    execArgv: ['--import', 'tsx'],
    serialization: 'advanced',
    // Standard output is for the benchmark's lines.
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  const exited = once(child, 'exit');
  const died = exited.then(([code, signal]): never => {
    throw new Error(`the process of ${which} ended early (${String(signal ?? code)})`);
  });
  // Waited for only while a call runs.
  died.catch(() => undefined);
  return {
    async call(method, argument) {
      const request: Request = { method, argument };
      const answered = once(child, 'message') as Promise<[Reply]>;
      child.send(request);
      const [reply] = await Promise.race([answered, died]);
      if ('failure' in reply) throw new Error(`${which}: ${reply.failure}`);
      return reply.result;
    },
    async end() {
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}

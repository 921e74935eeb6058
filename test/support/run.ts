import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly environment?: NodeJS.ProcessEnv;
  /** Exit status that is no failure of the test. */
  readonly expectCode?: number;
  readonly withinMs?: number;
}

const CLI = fileURLToPath(new URL('../../services/cli/main.ts', import.meta.url));

/** Runs a program without blocking this process. @throws Error with its output on another code */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = spawn(program, args, {
    env: { ...process.env, ...options.environment },
    stdio: 'pipe',
    timeout: options.withinMs ?? 120_000,
  });
  child.stdin.end(options.input ?? '');
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  if (code !== (options.expectCode ?? 0)) {
    throw new Error(
      `${program} ${args.join(' ')} ended with ${String(code)}:\n${stdout}\n${stderr}`,
    );
  }
  return { code, stdout, stderr };
}

/** Runs our command line from its sources. */
export function runCli(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(process.execPath, ['--import', 'tsx', CLI, ...args], options);
}

export { CLI as CLI_PATH };

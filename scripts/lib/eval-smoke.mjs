import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { FLOORS, SMOKE_RUNS, SMOKE_SETTINGS } from './eval-floors.mjs';
import { ROOT, toolEnvironment } from './root.mjs';
import { runQuietly, Stop } from './run.mjs';

const CLI = ['--import', 'tsx', 'services/cli/main.ts'];

/**
 * Starts a cluster with the embedded model, runs short evaluations, and compares each cell with its
 * floor.
 * @returns cells at or above their floor as passed, the others as failed
 * @throws Stop if the cluster or a run fails
 */
export async function evalSmoke() {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
  const cluster = await startCluster();
  try {
    const rows = [];
    for (const args of SMOKE_RUNS) {
      const out = join(folder, args[0]);
      const where = ['--router', cluster.router, '--out', out];
      await runQuietly(process.execPath, [...CLI, 'eval', ...args, ...where]);
      rows.push(...JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8')).rows);
    }
    return judge(rows);
  } finally {
    await cluster.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Compares rows of summaries with the floors; a floor without a row has failed. */
export function judge(rows, floors = FLOORS) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const left = new Set(Object.keys(floors));
  for (const row of rows) {
    const cell = [row.task, row.lengthTokens, ...(row.policy === 'dense' ? [] : [row.policy])].join(
      ' ',
    );
    const [figure, holds] = compare(row, floors[cell]);
    left.delete(cell);
    counts[holds ? 'passed' : 'failed'] += 1;
    console.log(`  ${holds ? 'ok    ' : 'FAILED'} ${cell.padEnd(30)}${figure}`);
  }
  for (const cell of left) console.log(`  FAILED ${cell.padEnd(30)}nothing was measured`);
  return { ...counts, failed: counts.failed + left.size };
}

function compare({ score, surprise }, floor) {
  if (floor === undefined) return ['it has no floor in scripts/lib/eval-floors.mjs', false];
  const count = `${score.count} of ${floor.answers} answers`;
  const isAll = score.count >= floor.answers;
  if (floor.mostNatsPerToken !== undefined) {
    const nats = surprise?.natsPerToken.mean ?? Infinity;
    const most = floor.mostNatsPerToken;
    return [`${nats.toFixed(3)} nats a token, at most ${most}; ${count}`, isAll && nats <= most];
  }
  if (floor.mostScore !== undefined) {
    const figure = `${score.mean.toFixed(3)}, at most ${floor.mostScore}; ${count}`;
    return [figure, isAll && score.mean <= floor.mostScore];
  }
  const figure = `${score.mean.toFixed(3)}, at least ${floor.leastScore}; ${count}`;
  return [figure, isAll && score.mean >= floor.leastScore];
}

/** A local cluster in a process of its own, on any free port. */
async function startCluster() {
  const child = spawn(
    process.execPath,
    [...CLI, 'up', '--json', '--router-listen', '127.0.0.1:0', '--log-level', 'error'],
    {
      cwd: ROOT,
      env: { ...toolEnvironment(), ...SMOKE_SETTINGS },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = once(child, 'close');
  const [line] = await Promise.race([
    once(createInterface(child.stdout), 'line'),
    ended.then(([code]) => {
      throw new Stop(`longshadow up ended with status ${code} before it was ready`);
    }),
  ]);
  return {
    router: JSON.parse(line).router,
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

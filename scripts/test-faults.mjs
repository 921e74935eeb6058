#!/usr/bin/env node
/*
 * Kills, stops and damages every part of real clusters, and holds each answer to that of an
 * undisturbed run. Prints how long clients waited.
 *
 *   node scripts/test-faults.mjs [--rounds N] [--seed N] [--short] [FILE]...
 *
 * Each case runs N times (3) with random timing; the seed is printed and repeats it. --short takes the
 * prompts of `npm test`. FILE: names in test/faults, as `redis`.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bootstrap } from './bootstrap.mjs';
import { Stop, main } from './lib/run.mjs';
import { faultTests } from './lib/test-stages.mjs';

/** Of one file: its cases, each several times. */
const FILE_TIMEOUT_MS = 3_600_000;

await main(async () => {
  const { rounds, seed, short, files } = readArguments();
  console.log('Getting ready');
  await bootstrap();
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  const report = join(folder, 'recovery.jsonl');
  try {
    const counts = await faultTests({
      ...(seed === undefined ? {} : { seed }),
      only: files,
      timeoutMs: FILE_TIMEOUT_MS,
      env: {
        LONGSHADOW_FAULT_FORM: short ? 'short' : 'long',
        LONGSHADOW_FAULT_ROUNDS: String(rounds),
        LONGSHADOW_FAULT_REPORT: report,
      },
    });
    if (existsSync(report)) console.log(`\n${recoveryTable(readFileSync(report, 'utf8'))}`);
    for (const file of counts.unsteady ?? [])
      console.log(`\npassed at the second attempt: ${file}`);
    console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
    return counts.failed === 0 ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: process.env.LONGSHADOW_FAULT_ROUNDS ?? '3' },
      seed: { type: 'string', default: process.env.LONGSHADOW_FAULT_SEED },
      short: { type: 'boolean', default: false },
    },
  });
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 1) throw new Stop(`--${name}: want 1 or more`);
    return value;
  };
  return {
    rounds: number('rounds'),
    seed: values.seed === undefined ? undefined : number('seed'),
    short: values.short,
    files: positionals,
  };
}

/** Markdown, as docs/reliability.md has it. */
function recoveryTable(lines) {
  const byFault = new Map();
  for (const line of lines.trimEnd().split('\n')) {
    const { fault, recoveryMs } = JSON.parse(line);
    byFault.set(fault, [...(byFault.get(fault) ?? []), recoveryMs]);
  }
  const rows = [...byFault].map(([fault, all]) => {
    const sorted = all.toSorted((left, right) => left - right);
    const median = sorted[Math.floor((sorted.length - 1) / 2)];
    return [fault, all.length, seconds(median), seconds(sorted.at(-1))];
  });
  const header = ['fault', 'runs', 'median', 'longest'];
  const widths = header.map((title, at) =>
    Math.max(title.length, ...rows.map((row) => String(row[at]).length)),
  );
  const render = (row) =>
    `| ${row.map((cell, at) => String(cell).padEnd(widths[at])).join(' | ')} |`;
  return [
    render(header),
    `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
    ...rows.sort().map(render),
  ].join('\n');
}

function seconds(ms) {
  return ms < 1_000 ? `${ms} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

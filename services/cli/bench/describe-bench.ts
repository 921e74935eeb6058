import { formatCount, formatDuration, formatShare, formatTable } from '../output/format.js';
import type { BenchLine } from './bench-lines.js';

/** The figures for a person: totals, single positions, and what the totals rest on. */
export function describeBench(lines: readonly BenchLine[]): string {
  const notes = [...lines.flatMap(describeRatios), ...lines.flatMap(describeLaw)];
  return `${[describeTotals(lines), describePositions(lines), ...notes].join('\n\n')}\n`;
}

function describeTotals(lines: readonly BenchLine[]): string {
  const isExtrapolated = lines.some((line) => line.extrapolated_seconds > 0);
  const hasGuard = lines.some((line) => line.guard_error_mean !== null);
  return formatTable(
    [
      { title: 'policy' },
      { title: 'tokens', right: true },
      { title: 'time', right: true },
      { title: 'times dense', right: true },
      ...SHARE_COLUMNS,
      ...(hasGuard ? [{ title: 'guard error, most', right: true }] : []),
    ],
    lines.map((line) => [
      line.policy,
      formatCount(line.tokens),
      rests(line.extrapolated_seconds > 0, duration(line.seconds)),
      rests(isExtrapolated, times(line.speedup)),
      ...shareCells({
        attention_share: line.attention_seconds / line.seconds,
        estimate_share: line.estimate_seconds / line.attention_seconds,
        index_share: line.index_seconds / line.attention_seconds,
        tile_density: line.tile_density,
      }),
      ...(hasGuard ? [guardCell(line)] : []),
    ]),
  );
}

/** Single chunks: what is asked of long prompts can be read off without one. */
function describePositions(lines: readonly BenchLine[]): string {
  const rows = lines
    .flatMap(({ policy, positions }) => positions.map((position) => ({ policy, ...position })))
    .sort((a, b) => a.end_token - b.end_token);
  return formatTable(
    [
      { title: 'chunk' },
      { title: 'policy' },
      { title: 'time', right: true },
      { title: 'times dense', right: true },
      ...SHARE_COLUMNS,
    ],
    rows.map((row) => [
      `${formatCount(row.begin_token)} to ${formatCount(row.end_token)}`,
      row.policy,
      duration(row.seconds),
      rests(row.speedup_is_extrapolated, times(row.speedup)),
      ...shareCells(row),
    ]),
  );
}

const SHARE_COLUMNS = [
  { title: 'attention, of time', right: true },
  { title: 'estimate, of attention', right: true },
  { title: 'index, of attention', right: true },
  { title: 'key tiles', right: true },
] as const;

function shareCells(shares: {
  readonly attention_share: number;
  readonly estimate_share: number;
  readonly index_share: number;
  readonly tile_density: number;
}): string[] {
  const { attention_share, estimate_share, index_share, tile_density } = shares;
  return [attention_share, estimate_share, index_share, tile_density].map(formatShare);
}

/** How much single chunks, and repeats, bear the totals out. */
function describeRatios(line: BenchLine): string[] {
  const { chunk_speedup: chunks, repeat_speedups: repeats } = line;
  if (chunks === null || repeats === null) return [];
  const ofRepeats =
    repeats.length < 2 ? '' : ` Whole prompt, by repeat: ${repeats.map(times).join(', ')}.`;
  return [
    `${line.policy}, times dense over ${countChunks(chunks.chunks)} that dense ran: ` +
      `${times(line.measured_speedup)} together; of single ones the median is ${times(chunks.median)}, ` +
      `half are ${times(chunks.lower_quartile)} to ${times(chunks.upper_quartile)}, ` +
      `all ${times(chunks.least)} to ${times(chunks.greatest)}.${ofRepeats}`,
  ];
}

function describeLaw({ policy, extrapolated_seconds, extrapolated_from }: BenchLine): string[] {
  if (extrapolated_from === null) return [];
  const { begin_token, end_token, chunks, residual } = extrapolated_from;
  const miss =
    residual === null ? '' : `, which misses them by ${formatShare(residual)} (root mean square)`;
  return [
    `${policy}: ${duration(extrapolated_seconds)} of its time are not measured; they follow from the ` +
      `cost law of ${countChunks(chunks)} from ${formatCount(begin_token)} to ` +
      `${formatCount(end_token)} tokens${miss}. What rests on it has a ~.`,
  ];
}

function countChunks(count: number): string {
  return count === 1 ? '1 chunk' : `${formatCount(count)} chunks`;
}

function guardCell({ guard_error_mean: mean, guard_error_max: most }: BenchLine): string {
  return mean === null || most === null ? '' : `${formatShare(mean)}, ${formatShare(most)}`;
}

function rests(onTheLaw: boolean, figure: string): string {
  return onTheLaw && figure !== '' ? `~${figure}` : figure;
}

function duration(seconds: number): string {
  return formatDuration(seconds * 1_000);
}

function times(factor: number | null): string {
  return factor === null ? '' : factor.toFixed(2);
}

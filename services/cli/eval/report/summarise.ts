import type { SampleResult } from '../eval-types.js';
import { evidenceOfDifference } from './evidence.js';
import { groupBy } from './group-by.js';
import { meansOf } from './mean-over-tasks.js';
import { pairedDifference, pairedSurprise, type ScoreDifference } from './paired-difference.js';
import { estimateRatio, estimateScore, median, sum } from './statistics.js';
import type {
  ControlSummary,
  Evidence,
  ReportOptions,
  Summary,
  SummaryRow,
  SurpriseSummary,
} from './summary-types.js';

type Roles = Required<Pick<ReportOptions, 'densePolicy' | 'controls' | 'controlPolicies'>>;

/** The samples of one task and length by policy. */
interface Cell {
  readonly task: string;
  readonly lengthTokens: number;
  readonly byPolicy: ReadonlyMap<string, readonly SampleResult[]>;
}

/**
 * Puts samples together by task, length and policy, compares each policy with dense on the samples
 * that both have, and sets its control beside it. Rows keep the order in which task, length and policy
 * first appear: see orderResults.
 */
export function summarise(
  results: readonly SampleResult[],
  options: Pick<ReportOptions, 'densePolicy' | 'controls' | 'controlPolicies'> = {},
): Summary {
  const roles: Roles = {
    densePolicy: options.densePolicy ?? 'dense',
    controls: options.controls ?? {},
    controlPolicies: options.controlPolicies ?? [],
  };
  const rows = cellsOf(results).flatMap((cell) =>
    [...cell.byPolicy.keys()].map((policy) => summariseRow(cell, policy, roles)),
  );
  return { rows, means: meansOf(rows) };
}

function cellsOf(results: readonly SampleResult[]): Cell[] {
  const tasks = [...new Set(results.map(({ task }) => task))];
  return tasks.flatMap((task) => {
    const ofTask = results.filter((result) => result.task === task);
    return [...groupBy(ofTask, ({ lengthTokens }) => lengthTokens)].map(
      ([lengthTokens, samples]) => ({
        task,
        lengthTokens,
        byPolicy: groupBy(samples, ({ policy }) => policy),
      }),
    );
  });
}

function summariseRow(cell: Cell, policy: string, roles: Roles): SummaryRow {
  const samples = cell.byPolicy.get(policy) ?? [];
  const role = roleOf(policy, roles);
  const control = role === 'sparse' ? controlOf(cell, policy, roles) : null;
  return {
    task: cell.task,
    lengthTokens: cell.lengthTokens,
    policy,
    role,
    documents: new Set(samples.map(({ documentId }) => documentId)).size,
    ...compared(cell, policy, roles),
    control,
    evidence: role === 'sparse' ? evidenceOf(control) : null,
  };
}

function compared(
  cell: Cell,
  policy: string,
  { densePolicy }: Roles,
): Pick<SummaryRow, 'tileDensity' | 'score' | 'toDense' | 'surprise'> {
  const samples = cell.byPolicy.get(policy) ?? [];
  const pairs =
    policy === densePolicy ? [] : pairsOf(samples, cell.byPolicy.get(densePolicy) ?? []);
  const densities = samples.flatMap(({ tileDensity }) => tileDensity ?? []);
  return {
    tileDensity: densities.length === 0 ? null : sum(densities) / densities.length,
    score: estimateScore(samples.map(({ score }) => score)),
    toDense: scoreDifference(pairs),
    surprise: surpriseOf(samples, pairs),
  };
}

function controlOf(cell: Cell, policy: string, roles: Roles): ControlSummary | null {
  const name = roles.controls[policy];
  if (name === undefined || !cell.byPolicy.has(name)) return null;
  return { policy: name, ...compared(cell, name, roles) };
}

/** Log-probabilities tell more than whether a target was the likeliest, so they decide if there. */
function evidenceOf(control: ControlSummary | null): Evidence {
  if (control === null) return 'no control';
  const { surprise, toDense } = control;
  if (surprise !== null) {
    if (surprise.aboveDense === null) return 'no control';
    return surprise.aboveDense.low > 0 ? 'some' : 'none';
  }
  return evidenceOfDifference(toDense);
}

type Pair = readonly [sample: SampleResult, dense: SampleResult];

function pairsOf(samples: readonly SampleResult[], dense: readonly SampleResult[]): Pair[] {
  const key = ({ documentId, questionId }: SampleResult): string =>
    JSON.stringify([documentId, questionId]);
  const denseByKey = new Map(dense.map((sample) => [key(sample), sample]));
  return samples.flatMap((sample) => {
    const partner = denseByKey.get(key(sample));
    return partner === undefined ? [] : [[sample, partner] as const];
  });
}

function scoreDifference(pairs: readonly Pair[]): ScoreDifference | null {
  if (pairs.length === 0) return null;
  return pairedDifference(
    pairs.map(([sample, dense]) => ({ score: sample.score, dense: dense.score })),
  );
}

function surpriseOf(
  samples: readonly SampleResult[],
  pairs: readonly Pair[],
): SurpriseSummary | null {
  const targets = samples.flatMap(({ logprobSum, targetTokens, worstRank }) =>
    logprobSum === null || targetTokens === null || targetTokens === 0
      ? []
      : [{ value: -logprobSum, weight: targetTokens, worstRank: worstRank ?? NaN }],
  );
  if (targets.length === 0) return null;
  const shared = pairs.flatMap(([{ logprobSum, targetTokens }, dense]) =>
    logprobSum === null || dense.logprobSum === null || targetTokens === null || targetTokens === 0
      ? []
      : [{ nats: -logprobSum, denseNats: -dense.logprobSum, tokens: targetTokens }],
  );
  return {
    targets: targets.length,
    tokens: sum(targets.map(({ weight }) => weight)),
    natsPerToken: estimateRatio(targets),
    medianWorstRank: median(targets.map(({ worstRank }) => worstRank)),
    aboveDense: shared.length === 0 ? null : pairedSurprise(shared),
  };
}

function roleOf(
  policy: string,
  { densePolicy, controls, controlPolicies }: Roles,
): SummaryRow['role'] {
  if (policy === densePolicy) return 'dense';
  return [...Object.values(controls), ...controlPolicies].includes(policy) ? 'control' : 'sparse';
}

import type { SparseThresholds } from '../../rpc/sparse-thresholds.js';

/**
 * Of the code that makes documents and scores answers. To be raised with every change after which the
 * same plan would give another document, prompt or score: samples of two versions are not one run's.
 */
export const GENERATORS_VERSION = 1;

type Threshold = SparseThresholds[keyof SparseThresholds];

/** What the router resolved for the policies that prefill sparsely, by the policy's name. */
export type PlanThresholds = Readonly<Record<string, SparseThresholds>>;

/** What decides a run's samples; two runs of the same plan against the same model are the same run. */
export interface RunPlan {
  /** Subcommand of `longshadow eval`. */
  readonly benchmark: string;
  /** GENERATORS_VERSION. */
  readonly generators: number;
  readonly model: string;
  /** 32 hex digits over the model's configuration and weights. */
  readonly modelFingerprint: string;
  /** 32 hex digits over the tokenizer's files. */
  readonly tokenizerFingerprint: string;
  readonly policies: readonly string[];
  readonly tasks: readonly string[];
  /** Tokens; empty where a benchmark's own documents decide. */
  readonly lengths: readonly number[];
  /** Of each cell. */
  readonly documents: number;
  readonly seed: number;
  /** What else a subcommand's options say, and fingerprints of all content that documents are made of. */
  readonly options: Readonly<Record<string, string | number>>;
  /** Absent before the cluster was asked for them. */
  readonly thresholds?: PlanThresholds;
}

/** In words; empty for the same plan. */
export function describePlanDifference(before: RunPlan, now: RunPlan): string[] {
  const [old, fresh] = [flatten(before), flatten(now)];
  return [...new Set([...old.keys(), ...fresh.keys()])].flatMap((name) => {
    const [was, is] = [old.get(name) ?? 'unset', fresh.get(name) ?? 'unset'];
    return was === is ? [] : [`${name} was ${was}, now ${is}`];
  });
}

/** In words; empty where a cluster has resolved what it did before. */
export function describeThresholdDifference(
  before: PlanThresholds | undefined,
  now: PlanThresholds,
): string[] {
  return Object.entries(now).flatMap(([policy, thresholds]) =>
    Object.entries(thresholds).flatMap(([name, is]: [string, Threshold]) => {
      const old: Readonly<Record<string, Threshold>> = { ...before?.[policy] };
      const was = old[name] ?? 'unset';
      return was === is ? [] : [`${name} of ${policy} was ${said(was)}, now ${said(is)}`];
    }),
  );
}

function said(value: Threshold): string {
  return value === '' ? 'none' : String(value);
}

/** A plan that was read may lack what this version writes. */
function flatten({ options, thresholds: _, ...plan }: Partial<RunPlan>): Map<string, string> {
  const entries = [...Object.entries(plan), ...Object.entries(options ?? {})];
  return new Map(entries.map(([name, value]) => [name, String(value)]));
}

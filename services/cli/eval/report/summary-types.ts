import type { ScoreDifference } from './paired-difference.js';
import type { Estimate, Interval } from './statistics.js';

/** What a report says besides the results. */
export interface ReportOptions {
  readonly title: string;
  /** The command that made the results; stands over the tables. */
  readonly command: string;
  /** What else a reader must know: model, machine, date. */
  readonly facts?: Readonly<Record<string, string>>;
  /** Default `dense`. */
  readonly densePolicy?: string;
  /** The control of a policy: what a window of the same cost does. */
  readonly controls?: Readonly<Record<string, string>>;
  /** Controls that ran, though the policies that they are for may not have; those of `controls` are too. */
  readonly controlPolicies?: readonly string[];
  /** Their order in tables and pictures; default by name, dense first. */
  readonly policies?: readonly string[];
  readonly tasks?: readonly string[];
}

/** What a policy's log-probabilities say. Nats, natural log. */
export interface SurpriseSummary {
  readonly targets: number;
  readonly tokens: number;
  /** Nats a token; the perplexity is its exponential. */
  readonly natsPerToken: Interval;
  /** Of the worst ranks of the targets, 1 = likeliest. */
  readonly medianWorstRank: number;
  /** Nats a token above dense on the same targets; null for dense, and without shared targets. */
  readonly aboveDense: Interval | null;
}

/**
 * `some`: the control falls below dense, so the task tells policies apart. `none`: the control does
 * as well as dense within its interval, so doing well here shows nothing. `no control`: none is
 * named, or it did not run.
 */
export type Evidence = 'some' | 'none' | 'no control';

/** A policy's control on the same samples. */
export interface ControlSummary {
  readonly policy: string;
  readonly score: Estimate;
  readonly toDense: ScoreDifference | null;
  readonly surprise: SurpriseSummary | null;
  /** As of SummaryRow. */
  readonly tileDensity: number | null;
}

/** One task at one length under one policy. */
export interface SummaryRow {
  readonly task: string;
  readonly lengthTokens: number;
  readonly policy: string;
  readonly role: 'dense' | 'sparse' | 'control';
  readonly documents: number;
  /** Mean share of dense attention's keys that prefill attended to, (0, 1]; null: not measured. */
  readonly tileDensity: number | null;
  readonly score: Estimate;
  /** Null for dense, and where dense did not run on the same samples. */
  readonly toDense: ScoreDifference | null;
  /** Null for tasks of questions. */
  readonly surprise: SurpriseSummary | null;
  /** Null unless the role is sparse. */
  readonly control: ControlSummary | null;
  readonly evidence: Evidence | null;
}

/** The mean of the question tasks' scores at one length under one policy. */
export interface MeanRow {
  readonly lengthTokens: number;
  readonly policy: string;
  readonly role: SummaryRow['role'];
  readonly tasks: number;
  /** The mean over tasks; null unless measured on each. */
  readonly tileDensity: number | null;
  readonly score: Interval;
  readonly toDense: Interval | null;
  /** Null unless the role is sparse and the control ran on every task. */
  readonly control: MeanControl | null;
  /** Whether the control's mean falls below dense's; null unless the role is sparse. */
  readonly evidence: Evidence | null;
}

/** A control's mean over the same tasks. */
export interface MeanControl {
  readonly policy: string;
  readonly tileDensity: number | null;
  readonly score: Interval;
  readonly toDense: Interval | null;
}

export interface Summary {
  readonly rows: readonly SummaryRow[];
  /** Empty unless two question tasks or more ran. */
  readonly means: readonly MeanRow[];
}

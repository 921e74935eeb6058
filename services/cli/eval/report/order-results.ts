import type { SampleResult } from '../eval-types.js';
import type { ReportOptions } from './summary-types.js';

/**
 * Samples in the order of a report, whatever the order in which they came: by task, length, policy
 * (dense first), document and question. Tasks and policies stand as the options name them, others
 * behind them by name.
 */
export function orderResults(
  results: readonly SampleResult[],
  options: Pick<ReportOptions, 'densePolicy' | 'policies' | 'tasks'> = {},
): SampleResult[] {
  const policies = [options.densePolicy ?? 'dense', ...(options.policies ?? [])];
  const compareTasks = comparer(options.tasks ?? []);
  const comparePolicies = comparer(policies);
  return [...results].sort(
    (a, b) =>
      compareTasks(a.task, b.task) ||
      a.lengthTokens - b.lengthTokens ||
      comparePolicies(a.policy, b.policy) ||
      compareNames(a.documentId, b.documentId) ||
      compareNames(a.questionId, b.questionId),
  );
}

function comparer(first: readonly string[]): (a: string, b: string) => number {
  const rank = (name: string): number => {
    const at = first.indexOf(name);
    return at === -1 ? first.length : at;
  };
  return (a, b) => rank(a) - rank(b) || compareNames(a, b);
}

/** By number where names hold numbers, as `needle/4096/10` after `needle/4096/9`. */
const names = new Intl.Collator('en', { numeric: true });

function compareNames(a: string, b: string): number {
  return names.compare(a, b);
}

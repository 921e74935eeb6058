import { evidenceOfDifference } from './evidence.js';
import { groupBy } from './group-by.js';
import { averageIntervals, sum } from './statistics.js';
import type { ControlSummary, MeanControl, MeanRow, SummaryRow } from './summary-types.js';

/**
 * The means of each length and policy that has two question tasks or more; compared with dense, and
 * with a control, only if these have all of a policy's tasks too.
 */
export function meansOf(rows: readonly SummaryRow[]): MeanRow[] {
  const questions = rows.filter(({ surprise }) => surprise === null);
  const groups = groupBy(questions, ({ lengthTokens, policy }) =>
    JSON.stringify([lengthTokens, policy]),
  );
  return [...groups.values()]
    .filter((group) => group.length > 1)
    .flatMap((group) => {
      const [first] = group;
      if (first === undefined) return [];
      const { lengthTokens, policy, role } = first;
      const control = controlMean(group.map((row) => row.control));
      const evidence = role === 'sparse' ? evidenceOfDifference(control?.toDense ?? null) : null;
      return {
        lengthTokens,
        policy,
        role,
        tasks: group.length,
        ...means(group),
        control,
        evidence,
      };
    })
    .sort((a, b) => a.lengthTokens - b.lengthTokens);
}

function controlMean(controls: readonly (ControlSummary | null)[]): MeanControl | null {
  const ran = controls.flatMap((control) => (control === null ? [] : [control]));
  const [first] = ran;
  if (first === undefined || ran.length < controls.length) return null;
  return { policy: first.policy, ...means(ran) };
}

function means(
  parts: readonly Pick<SummaryRow, 'tileDensity' | 'score' | 'toDense'>[],
): Pick<MeanRow, 'tileDensity' | 'score' | 'toDense'> {
  const densities = parts.flatMap(({ tileDensity }) => tileDensity ?? []);
  const differences = parts.flatMap(({ toDense }) => (toDense === null ? [] : [toDense]));
  return {
    tileDensity: densities.length === parts.length ? sum(densities) / parts.length : null,
    score: averageIntervals(parts.map(({ score }) => score)),
    toDense: differences.length === parts.length ? averageIntervals(differences) : null,
  };
}

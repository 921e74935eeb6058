import { formatCount, formatShare, formatTable } from '../output/format.js';
import { DEFAULT_NAME } from './candidates.js';
import type { SearchOptions } from './search-options.js';
import type { ErrorAt, SearchSummary } from './search-summary.js';

/** A search's result for people. @param outFile the pattern file that was written */
export function describeSearch(
  summary: SearchSummary,
  options: SearchOptions,
  outFile: string,
): string {
  const { tokens, prompts, heldOut, tiles } = options;
  return [
    `${outFile}: patterns of ${String(summary.choices.length)} heads, chosen by ` +
      `${count(prompts, 'prompt')} of ${formatCount(tokens)} tokens at ${count(tiles, 'key tile')}`,
    patternTable(summary),
    ...(heldOut === 0
      ? []
      : [
          `On ${count(heldOut, 'prompt')} that the choice has not seen, mean relative error (share of keys):`,
          heldOutTable(summary),
          describeGain(summary),
        ]),
    ...(summary.closeHeads === 0
      ? []
      : [
          `warning: the best two of vertical-slash, block-sparse and key-bounds differ by less ` +
            `than 2 % for ${count(summary.closeHeads, 'head')}: which of them was taken there is chance`,
        ]),
    '',
  ].join('\n\n');
}

function patternTable({ patterns }: SearchSummary): string {
  return formatTable(
    [
      { title: 'pattern' },
      { title: 'heads', right: true },
      { title: 'error for all', right: true },
      { title: 'share of keys', right: true },
    ],
    patterns.map(({ name, heads, error, density }) => [
      ...[name, String(heads), formatShare(error), formatShare(density)],
    ]),
  );
}

function heldOutTable({ heldOut }: SearchSummary): string {
  const cell = ({ error, density }: ErrorAt): string =>
    `${formatShare(error)} (${formatShare(density)})`;
  return formatTable(
    [
      { title: 'layer' },
      { title: 'chosen', right: true },
      { title: DEFAULT_NAME, right: true },
      { title: 'a-shape', right: true },
    ],
    heldOut.map(({ layer, chosen, standard, control }) => [
      ...[layer === null ? 'all' : String(layer), cell(chosen), cell(standard), cell(control)],
    ]),
  );
}

function describeGain({ heldOut }: SearchSummary): string {
  const all = heldOut.find(({ layer }) => layer === null);
  if (all === undefined) return '';
  const against = (name: string, { error }: ErrorAt): string => {
    const change = 1 - all.chosen.error / error;
    const word = change < 0 ? 'more' : 'less';
    return `${formatShare(Math.abs(change))} ${word} than ${name}`;
  };
  return (
    `The chosen patterns' error is ${against(DEFAULT_NAME, all.standard)}, ` +
    `and ${against('a-shape', all.control)}.`
  );
}

function count(things: number, name: string): string {
  return `${formatCount(things)} ${name}${things === 1 ? '' : 's'}`;
}

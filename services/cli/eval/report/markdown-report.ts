import {
  formatFactor,
  formatLength,
  formatPercent,
  formatPerplexity,
  formatPoints,
  formatRange,
} from './format-numbers.js';
import { codeBlock, escapeMarkdown, type MarkdownColumn, markdownTable } from './markdown-table.js';
import type { ScoreDifference } from './paired-difference.js';
import type {
  MeanRow,
  ReportOptions,
  Summary,
  SummaryRow,
  SurpriseSummary,
} from './summary-types.js';

/** A picture that the report shows. */
export interface ReportPicture {
  /** Relative to the report, with `/`. */
  readonly path: string;
  readonly title: string;
}

const UNKNOWN = '–';

const HOW_TO_READ = [
  'Intervals hold 95 %. Scores have Wilson’s; graded ones at the number of right or wrong answers that would vary as they do. Answers count as independent.',
];
const HOW_TO_COMPARE = [
  'A difference is over the questions that both policies answered, with Bonett and Price’s interval.',
  '“Within 1 point” says that at most 2 of 100 answers that dense has right are lost; what a policy gains elsewhere does not make up for them. It takes 100 answers.',
  'A control is a window of the same cost. Where it does as well as dense within its interval, or none ran, the row is no evidence for the policy.',
  'Tile density is the share of dense attention’s keys that prefill attended to, of blocks of 64 queries. Compare scores at equal densities.',
];

/** The whole report as Markdown. */
export function markdownReport(
  summary: Summary,
  pictures: readonly ReportPicture[],
  options: ReportOptions,
): string {
  const facts = Object.entries(options.facts ?? {});
  const { rows, means } = summary;
  const questions = rows.filter(({ surprise }) => surprise === null);
  const texts = rows.filter(({ surprise }) => surprise !== null);
  const hasSparse = rows.some(({ role }) => role === 'sparse');
  const sections = [
    `# ${escapeMarkdown(options.title)}`,
    codeBlock(options.command, 'sh'),
    facts.map(([name, value]) => `* ${escapeMarkdown(`${name}: ${value}`)}`).join('\n'),
    section('Scores', markdownTable(scoreColumns(hasSparse), questions), questions.length),
    section('Mean over tasks', markdownTable(meanColumns(hasSparse), means), means.length),
    section('Log-probabilities', markdownTable(textColumns(hasSparse), texts), texts.length),
    [...HOW_TO_READ, ...(hasSparse ? HOW_TO_COMPARE : [])].join('\n\n'),
    pictures.map(({ path, title }) => `![${escapeMarkdown(title)}](<${path}>)`).join('\n\n'),
  ];
  return `${sections.filter((text) => text !== '').join('\n\n')}\n`;
}

function section(title: string, table: string, rows: number): string {
  return rows === 0 ? '' : `## ${title}\n\n${table}`;
}

type Columns<Row> = MarkdownColumn<Row>[];

function scoreColumns(hasSparse: boolean): Columns<SummaryRow> {
  const always: Columns<SummaryRow> = [
    ...placeColumns(hasSparse),
    number('answers', ({ score }) => String(score.count)),
    ...scoreColumnsOf<SummaryRow>(),
  ];
  if (!hasSparse) return always;
  return [
    ...always,
    ...againstDenseColumns<SummaryRow>(),
    word('within 1 point', ({ toDense }) => or(toDense, withinText)),
    ...controlColumns<SummaryRow>(),
  ];
}

function textColumns(hasSparse: boolean): Columns<SummaryRow> {
  const of = (row: SummaryRow, show: (surprise: SurpriseSummary) => string): string =>
    or(row.surprise, show);
  const always: Columns<SummaryRow> = [
    ...placeColumns(hasSparse),
    number('targets', (row) => of(row, ({ targets }) => String(targets))),
    number('tokens', (row) => of(row, ({ tokens }) => tokens.toLocaleString('en-US'))),
    number('perplexity', (row) => of(row, (s) => formatPerplexity(s.natsPerToken.mean))),
    number('95 % interval', (row) => of(row, (s) => formatRange(s.natsPerToken, formatPerplexity))),
    number('likeliest throughout, %', ({ score }) => formatPercent(score.mean)),
    number('median worst rank', (row) => of(row, (s) => s.medianWorstRank.toFixed(0))),
  ];
  if (!hasSparse) return always;
  return [
    ...always,
    number('perplexity against dense', (row) =>
      of(row, (s) => or(s.aboveDense, (above) => formatFactor(above.mean))),
    ),
    number('95 % interval', (row) =>
      of(row, (s) => or(s.aboveDense, (above) => formatRange(above, formatFactor))),
    ),
    controlDensityColumn<SummaryRow>(),
    number('control against dense', ({ control }) =>
      or(
        control?.surprise?.aboveDense,
        (above) => `${formatFactor(above.mean)} (${formatRange(above, formatFactor)})`,
      ),
    ),
    word('evidence', evidenceText),
  ];
}

function meanColumns(hasSparse: boolean): Columns<MeanRow> {
  const always: Columns<MeanRow> = [
    number('length', ({ lengthTokens }) => formatLength(lengthTokens)),
    word('policy', policyText),
    ...(hasSparse ? [densityColumn<MeanRow>()] : []),
    number('tasks', ({ tasks }) => String(tasks)),
    ...scoreColumnsOf<MeanRow>(),
  ];
  if (!hasSparse) return always;
  return [...always, ...againstDenseColumns<MeanRow>(), ...controlColumns<MeanRow>()];
}

function placeColumns(hasSparse: boolean): Columns<SummaryRow> {
  return [
    word('task', ({ task }) => task),
    number('length', ({ lengthTokens }) => formatLength(lengthTokens)),
    word('policy', policyText),
    ...(hasSparse ? [densityColumn<SummaryRow>()] : []),
    number('documents', ({ documents }) => String(documents)),
  ];
}

/** A score, or the mean of several, with its interval. */
function scoreColumnsOf<Row extends SummaryRow | MeanRow>(): Columns<Row> {
  return [
    number('score, %', ({ score }) => formatPercent(score.mean)),
    number('95 % interval', ({ score }) => formatRange(score, formatPercent)),
  ];
}

function againstDenseColumns<Row extends SummaryRow | MeanRow>(): Columns<Row> {
  return [
    number('against dense, points', ({ toDense }) => or(toDense, (d) => formatPoints(d.mean))),
    number('95 % interval', ({ toDense }) => or(toDense, (d) => formatRange(d, formatPoints))),
  ];
}

function densityColumn<Row extends SummaryRow | MeanRow>(): Columns<Row>[number] {
  return number('tile density, %', ({ tileDensity }) => or(tileDensity, formatPercent));
}

function controlDensityColumn<Row extends SummaryRow | MeanRow>(): Columns<Row>[number] {
  return number('tile density of the control, %', ({ control }) =>
    or(control?.tileDensity, formatPercent),
  );
}

/** The control of a row of scores, or of their mean. */
function controlColumns<Row extends SummaryRow | MeanRow>(): Columns<Row> {
  return [
    controlDensityColumn<Row>(),
    number('control, %', ({ control }) => or(control, (c) => formatPercent(c.score.mean))),
    number('control against dense, points', ({ control }) =>
      or(control?.toDense, (d) => `${formatPoints(d.mean)} (${formatRange(d, formatPoints)})`),
    ),
    word('evidence', evidenceText),
  ];
}

function policyText({ policy, role }: SummaryRow | MeanRow): string {
  return role === 'control' ? `${policy} (control)` : policy;
}

function evidenceText({ evidence, control }: SummaryRow | MeanRow): string {
  if (evidence === null) return UNKNOWN;
  if (evidence === 'none')
    return `no evidence: ${control?.policy ?? 'the control'} does as well as dense`;
  return evidence === 'some' ? 'yes' : 'no evidence: no control ran';
}

function withinText({ withinOnePoint, lost, missingAnswers }: ScoreDifference): string {
  if (withinOnePoint === null) {
    return `needs ${missingAnswers} more ${missingAnswers === 1 ? 'answer' : 'answers'}`;
  }
  return `${withinOnePoint ? 'yes' : 'no'}: ${Number(lost.toFixed(2))} lost`;
}

function or<T>(value: T | null | undefined, show: (value: T) => string): string {
  return value === null || value === undefined ? UNKNOWN : show(value);
}

function word<Row>(title: string, cell: (row: Row) => string): MarkdownColumn<Row> {
  return { title, cell };
}

function number<Row>(title: string, cell: (row: Row) => string): MarkdownColumn<Row> {
  return { title, cell, isNumber: true };
}
